"""Runs scenarios one after the other. Exit status: 0 all held, 1 one did not, 2 bad usage."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time

from resp import Refused

from .bench import Bench, Skipped
from .failure import Failure
from .scenarios import SCENARIOS


def main():
    options = arguments()
    if options.list:
        for name, function in SCENARIOS.items():
            print(f"{name:<20} {function.__doc__.splitlines()[0]}")
        return 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    started = time.monotonic()
    results = {name: attempt(name, options) for name in options.scenarios or SCENARIOS}
    counts = {kind: list(results.values()).count(kind) for kind in ("held", "skipped", "FAILED")}
    shown = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    print(f"lab: {shown} in {time.monotonic() - started:.0f} s")
    return 1 if counts["FAILED"] or not counts["held"] else 0


def interrupt(number, _frame):
    raise KeyboardInterrupt(signal.Signals(number).name)


def attempt(name, options):
    """Runs one scenario and removes everything it made, also when it is interrupted."""
    started = time.monotonic()
    bench = Bench(name, options.scspd, options.seed, options.folder)
    result = "FAILED"
    try:
        SCENARIOS[name](bench)
        table = bench.finish()
        result = "held"
        say(name, f"held ({time.monotonic() - started:.1f} s)", table if options.verbose else "")
    except Skipped as reason:
        result = "skipped"
        say(name, f"skipped: {reason}")
    except (Failure, Refused, OSError, subprocess.SubprocessError) as failure:
        say(name, f"FAILED: {failure}", "\n".join(bench.evidence()))
        print(f"to try again: scripts/lab.sh --seed {options.seed} {name}", flush=True)
    finally:
        # From here on nothing may keep the namespaces alive.
        handlers = {each: signal.signal(each, signal.SIG_IGN) for each in (signal.SIGINT, signal.SIGTERM)}
        bench.close()
        if options.keep:
            print(f"kept: {bench.folder}", flush=True)
        else:
            shutil.rmtree(bench.folder)
        for each, handler in handlers.items():
            signal.signal(each, handler)
    return result


def say(name, outcome, detail=""):
    print(f"{name}: {outcome}", flush=True)
    if detail:
        print(detail.rstrip(), flush=True)


def arguments():
    parser = argparse.ArgumentParser(prog="lab.sh", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="default: all")
    parser.add_argument("--list", action="store_true", help="name the scenarios")
    parser.add_argument("--scspd", default=os.environ.get("SCSPD"), help="the program (environment: SCSPD)")
    parser.add_argument("--seed", default="1", help="of keys and values (1)")
    parser.add_argument("--keep", action="store_true", help="keep logs, configurations and captures")
    parser.add_argument("--folder", help="where to keep them (the system's temporary folder)")
    parser.add_argument("--verbose", action="store_true", help="print the decoder's tables")
    options = parser.parse_args()
    unknown = [name for name in options.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; --list names them")
    if not options.list and not options.scspd:
        parser.error("--scspd or SCSPD must name the program")
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt as error:
        print(f"lab: interrupted {error}", file=sys.stderr)
        sys.exit(130)
