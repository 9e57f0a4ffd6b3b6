//! Metrics in Prometheus' text format. Workers count on their own; everything is moved here when
//! somebody scrapes. The recorder is local to the hub, so that hubs in one process stay apart.

use std::time::Duration;

use metrics::{Label, counter, gauge, histogram};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use scsp_engine::message::Abnormal;
use scsp_engine::shard::{Drop as Refused, Outcome};
use scsp_engine::{Control, InstanceIndex, Notice, Now, alignment, hello};
use scsp_resp::command::COMMANDS;
use scsp_wire::MessageType;

use crate::hub::Hub;
use crate::stats::{Cell, DcsStats, InstanceStats, IoStats, Sample, WorkerStats};

/// Buckets in seconds for what takes microseconds to seconds.
const LATENCY_BUCKETS: [f64; 16] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.1, 0.5, 1.0, 5.0, 30.0,
];
/// Buckets in seconds for alignments and snapshots.
const ALIGNMENT_BUCKETS: [f64; 13] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0,
];

/// The metrics of one hub.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    /// Packets that the control thread sent, by type code - 1.
    sent: [u64; 5],
    sent_bytes: u64,
    send_failures: u64,
}

impl Metrics {
    /// Everything at 0.
    pub fn new(hub: &Hub) -> Self {
        let full = |name: &str| Matcher::Full(name.to_owned());
        let recorder = PrometheusBuilder::new()
            .set_buckets(&LATENCY_BUCKETS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(
                    full("scsp_alignment_duration_seconds"),
                    &ALIGNMENT_BUCKETS,
                )
            })
            .and_then(|builder| {
                builder.set_buckets_for_metric(
                    full("scsp_snapshot_duration_seconds"),
                    &ALIGNMENT_BUCKETS,
                )
            })
            .expect("bucket lists are not empty")
            .build_recorder();
        let handle = recorder.handle();
        let metrics = Self {
            recorder,
            handle,
            sent: [0; 5],
            sent_bytes: 0,
            send_failures: 0,
        };
        metrics::with_local_recorder(&metrics.recorder, || describe(hub));
        metrics
    }

    /// The control thread sent `count` packets with message type `code`, `len` octets in all.
    pub fn sent(&mut self, code: u8, count: usize, len: usize) {
        if let Some(sent) = usize::from(code)
            .checked_sub(1)
            .and_then(|at| self.sent.get_mut(at))
        {
            *sent += count as u64;
        }
        self.sent_bytes += len as u64;
    }

    /// The control thread could not send `count` packets, or some of them.
    pub fn send_failed(&mut self, count: usize) {
        self.send_failures += count as u64;
    }

    /// A snapshot was written.
    pub fn snapshot(&mut self, took: Duration) {
        metrics::with_local_recorder(&self.recorder, || {
            histogram!("scsp_snapshot_duration_seconds").record(took);
        });
    }

    /// Observes what a notice says.
    pub fn notice(&mut self, hub: &Hub, notice: &Notice) {
        if let Notice::Alignment {
            dcs,
            took: Some(took),
            ..
        } = notice
        {
            let group = group_label(hub, hub.peers[dcs.index()].group);
            metrics::with_local_recorder(&self.recorder, || {
                histogram!("scsp_alignment_duration_seconds", vec![group]).record(*took);
            });
        }
    }

    /// Moves everything from the workers and the control core here.
    pub fn collect(&mut self, hub: &Hub, control: &Control, now: Now) {
        metrics::with_local_recorder(&self.recorder, || {
            gauge!("scsp_ready").set(flag(crate::admin::readiness(hub, control).is_ok()));
            self.collect_packets(hub, control);
            for (instance, group) in (0..).map(InstanceIndex).zip(&hub.groups) {
                collect_group(hub, instance, Label::new("group", group.name.clone()));
            }
            collect_peers(hub, control, now);
            for (number, worker) in hub.stats.iter().enumerate() {
                collect_worker(hub, number, worker);
            }
            for (index, command) in COMMANDS.iter().enumerate() {
                let count = sum(hub, |worker| &worker.commands[index]);
                counter!("scsp_client_commands_total", "command" => command.name).absolute(count);
            }
            let connections = sum(hub, |worker| &worker.connections);
            gauge!("scsp_client_connections").set(as_f64(connections));
            let taken = Duration::from_millis(hub.snapshots.taken_unix_ms.get());
            gauge!("scsp_snapshot_timestamp_seconds").set(taken.as_secs_f64());
            counter!("scsp_snapshot_failures_total").absolute(hub.snapshots.failures.get());
        });
        self.handle.run_upkeep();
    }

    /// What a scrape answers.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    fn collect_packets(&self, hub: &Hub, control: &Control) {
        let (packets, inbound) = (control.packets(), &hub.inbound);
        for kind in MessageType::ALL {
            let at = usize::from(kind.code()) - 1;
            let received = sum(hub, |worker| &worker.packets_received[at]) + packets.received[at];
            let sent = sum(hub, |worker| &worker.packets_sent[at]) + self.sent[at];
            counter!("scsp_packets_received_total", "type" => kind.label()).absolute(received);
            counter!("scsp_packets_sent_total", "type" => kind.label()).absolute(sent);
        }
        let io = |value: fn(&IoStats) -> &Cell| sum(hub, |worker| value(&worker.io));
        let received = io(|io| &io.bytes_received) + inbound.bytes_received.get();
        counter!("scsp_bytes_received_total").absolute(received);
        counter!("scsp_bytes_sent_total").absolute(io(|io| &io.bytes_sent) + self.sent_bytes);
        let overflow = io(|io| &io.receive_queue_overflow) + inbound.receive_queue_overflow.get();
        counter!("scsp_receive_queue_overflow_total").absolute(overflow);
        let dropped = |reason: &'static str, count| {
            counter!("scsp_packets_dropped_total", "reason" => reason).absolute(count);
        };
        let malformed = sum(hub, |worker| &worker.vendor_malformed) + packets.vendor_malformed;
        counter!("scsp_vendor_extensions_malformed_total").absolute(malformed);
        for (at, reason) in Refused::labels().enumerate() {
            let of_workers = sum(hub, |worker| &worker.packets_dropped[at]);
            dropped(reason, of_workers + packets.dropped[at]);
        }
        let unknown_peer = sum(hub, |worker| &worker.unknown_peer);
        dropped("unknown_peer", unknown_peer + inbound.unknown_peer.get());
        let own = sum(hub, |worker| &worker.own);
        dropped("own_packet", own + inbound.own.get());
        dropped("ignored", control.ignored());
        let withheld = sum(hub, |worker| &worker.packets_withheld) + control.withheld();
        dropped("withheld", withheld);
        let truncated = io(|io| &io.truncated);
        dropped("datagram_truncated", truncated + inbound.truncated.get());
        dropped(
            "send_failed",
            io(|io| &io.send_failures) + self.send_failures,
        );
    }
}

/// Histograms and constant series, so that all exist from the start.
fn describe(hub: &Hub) {
    let revision = option_env!("SCSPD_REVISION").unwrap_or("unknown");
    gauge!("scsp_build_info", "version" => env!("CARGO_PKG_VERSION"), "revision" => revision)
        .set(1.0);
    let reason = hub.backend_reason.clone().unwrap_or_default();
    gauge!("scsp_io_backend_info", "backend" => hub.backend.label(), "reason" => reason).set(1.0);
    for instance in (0..).map(InstanceIndex).take(hub.groups.len()) {
        for name in [
            "scsp_alignment_duration_seconds",
            "scsp_acknowledgement_seconds",
            "scsp_propagation_seconds",
        ] {
            let _ = histogram!(name, vec![group_label(hub, instance)]);
        }
    }
    let _ = histogram!("scsp_client_command_seconds");
    let _ = histogram!("scsp_snapshot_duration_seconds");
}

fn collect_group(hub: &Hub, instance: InstanceIndex, group: Label) {
    let total = |value: fn(&InstanceStats) -> &Cell| {
        sum(hub, |worker| value(&worker.instances[instance.index()]))
    };
    for (at, outcome) in Outcome::ALL.into_iter().enumerate() {
        let count = sum(hub, |worker| {
            &worker.instances[instance.index()].received[at]
        });
        let labels = vec![group.clone(), Label::new("outcome", outcome.label())];
        counter!("scsp_records_received_total", labels).absolute(count);
    }
    let count = |name: &'static str, value| counter!(name, vec![group.clone()]).absolute(value);
    count("scsp_records_originated_total", total(|it| &it.originated));
    count(
        "scsp_records_acknowledged_total",
        total(|it| &it.acknowledged),
    );
    count(
        "scsp_records_retransmitted_total",
        total(|it| &it.retransmitted),
    );
    count(
        "scsp_records_reoriginated_total",
        total(|it| &it.reoriginated),
    );
    count("scsp_records_broadcast_total", total(|it| &it.broadcast));
    count("scsp_records_spared_total", total(|it| &it.spared));
    count("scsp_records_unsendable_total", total(|it| &it.unsendable));
    count("scsp_cache_expired_total", total(|it| &it.expired));
    gauge!("scsp_cache_entries", vec![group.clone()]).set(as_f64(total(|it| &it.entries)));
    gauge!("scsp_cache_bytes", vec![group]).set(as_f64(total(|it| &it.bytes)));
}

fn collect_peers(hub: &Hub, control: &Control, now: Now) {
    for (dcs, info) in hub.peers() {
        let peer = control.peer(dcs);
        let labels = |more: Option<(&'static str, &'static str)>| {
            let peer = Label::new("peer", info.address.to_string());
            let more = more.map(|(name, value)| Label::new(name, value));
            [group_label(hub, info.group), peer]
                .into_iter()
                .chain(more)
                .collect::<Vec<_>>()
        };
        for state in hello::State::ALL {
            gauge!(
                "scsp_peer_hello_state",
                labels(Some(("state", state.label())))
            )
            .set(flag(peer.hello == state));
        }
        for state in alignment::State::ALL {
            gauge!(
                "scsp_peer_alignment_state",
                labels(Some(("state", state.label())))
            )
            .set(flag(peer.alignment == state));
        }
        for (machine, count) in ["hello", "alignment"].into_iter().zip(peer.transitions) {
            counter!(
                "scsp_peer_transitions_total",
                labels(Some(("machine", machine)))
            )
            .absolute(count);
        }
        for (cause, count) in Abnormal::ALL.into_iter().zip(peer.abnormal) {
            counter!(
                "scsp_peer_abnormal_events_total",
                labels(Some(("event", cause.label())))
            )
            .absolute(count);
        }
        counter!("scsp_peer_late_hellos_total", labels(None)).absolute(peer.late_hellos);
        gauge!("scsp_peer_duplicate_id", labels(None)).set(flag(peer.duplicate_id));
        let heard = peer.last_hello.map_or(0.0, |at| {
            Duration::from_millis(now.unix_ms)
                .saturating_sub(now.time.since(at))
                .as_secs_f64()
        });
        gauge!("scsp_peer_last_hello_timestamp_seconds", labels(None)).set(heard);
        let total = |value: fn(&DcsStats) -> &Cell| {
            as_f64(sum(hub, |worker| value(&worker.dcs[dcs.index()])))
        };
        gauge!("scsp_peer_retransmit_queue_records", labels(None)).set(total(|it| &it.queue));
        gauge!("scsp_peer_request_list_records", labels(None)).set(total(|it| &it.requests));
        let skews = hub
            .stats
            .iter()
            .map(|worker| worker.dcs[dcs.index()].skew_ms());
        let skew_ms = skews
            .max_by_key(|skew_ms| skew_ms.abs())
            .unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        gauge!("scsp_clock_skew_seconds", labels(None)).set(skew_ms as f64 / 1000.0);
    }
}

fn collect_worker(hub: &Hub, number: usize, worker: &WorkerStats) {
    let name = Label::new("worker", number.to_string());
    let count = |name_of: &'static str, cell: &Cell| {
        counter!(name_of, vec![name.clone()]).absolute(cell.get());
    };
    count("scsp_ring_enter_total", &worker.io.enters);
    count("scsp_ring_completions_total", &worker.io.completions);
    count(
        "scsp_ring_completion_overflow_total",
        &worker.io.completion_overflow,
    );
    count(
        "scsp_receive_buffers_exhausted_total",
        &worker.io.receive_buffers_exhausted,
    );
    count("scsp_segmented_sends_total", &worker.io.segmented_sends);
    count("scsp_segments_refused_total", &worker.io.refused_segments);
    count(
        "scsp_coalesced_receives_total",
        &worker.io.coalesced_receives,
    );
    // A gauge can hold fractions of a second; the name and its meaning are those of a counter.
    let busy = Duration::from_nanos(worker.busy_nanos.get()).as_secs_f64();
    gauge!("scsp_worker_busy_seconds_total", vec![name.clone()]).set(busy);
    while let Some(sample) = worker.samples.pop() {
        match sample {
            Sample::Acknowledgement { group, took } => {
                histogram!(
                    "scsp_acknowledgement_seconds",
                    vec![group_label(hub, group)]
                )
                .record(took);
            }
            Sample::Propagation { group, took } => {
                histogram!("scsp_propagation_seconds", vec![group_label(hub, group)]).record(took);
            }
            Sample::Command { took } => histogram!("scsp_client_command_seconds").record(took),
        }
    }
}

fn group_label(hub: &Hub, instance: InstanceIndex) -> Label {
    Label::new("group", hub.groups[instance.index()].name.clone())
}

fn sum<'a>(hub: &'a Hub, cell: impl Fn(&'a WorkerStats) -> &'a Cell) -> u64 {
    hub.stats.iter().map(|worker| cell(worker).get()).sum()
}

fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "gauges of counts below 2^53")]
fn as_f64(value: u64) -> f64 {
    value as f64
}
