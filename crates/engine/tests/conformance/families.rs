//! Families: one hello machine and one stream of Hellos for several instances (RFC 2334 B.2.5).

use std::time::Duration;

use scsp_engine::alignment::State as Alignment;
use scsp_engine::hello::State::{Bidirectional, Unidirectional, Waiting};
use scsp_engine::message::Abnormal;
use scsp_engine::{
    DcsIndex, DcsSetup, InstanceIndex, InstanceSetup, LinkIndex, LinkSetup, Notice, Setup,
};
use scsp_wire::{FamilyId, ProtocolId, ServerGroupId};

use crate::script::{LSID, Lab, Msg, hello, sum};
use crate::support::{D0, D1, Hub, I0, World, at, dcs, id, millis, opaque_instance, secs, setup};

const D2: DcsIndex = DcsIndex(2);
const D3: DcsIndex = DcsIndex(3);
const F7: FamilyId = FamilyId(7);

fn member(group: u16, family: FamilyId) -> InstanceSetup {
    InstanceSetup {
        group: ServerGroupId(group),
        family,
        ..opaque_instance()
    }
}

/// Behind one address, server 9 in the groups 2 and 1 of a family and in group 3 of none; behind
/// another one, server 7 in group 2.
fn adapt(setup: &mut Setup) {
    setup.instances = vec![member(2, F7), member(1, F7), member(3, FamilyId(0))];
    let at = |instance, link| DcsSetup {
        instance: InstanceIndex(instance),
        link: LinkIndex(link),
        station: 4,
        ..dcs()
    };
    setup.dcs = vec![at(0, 0), at(1, 0), at(2, 0), at(0, 1)];
    setup.links = vec![
        LinkSetup {
            multipoint: false,
            segments: true
        };
        2
    ];
}

fn lab() -> Lab {
    Lab::with(&[9, 9, 9, 7], adapt)
}

fn states(lab: &Lab) -> [scsp_engine::hello::State; 4] {
    [D0, D1, D2, D3].map(|dcs| lab.hub.hello(dcs))
}

/// Goal: instances of a family share the machine and the Hellos to a server, which name the lowest
/// instance; a Hello counts for all of them whichever it names, and each alignment begins.
#[test]
fn h_14_one_machine_serves_the_family() {
    let mut lab = lab();
    let counts = [D0, D1, D2, D3].map(|dcs| lab.hellos(dcs).len());
    assert_eq!(counts, [0, 1, 1, 1], "group 1 is the lowest towards 9");
    lab.wait(secs(1));
    lab.send(D0, &hello(&[LSID]));
    assert_eq!(
        states(&lab),
        [Bidirectional, Bidirectional, Waiting, Waiting]
    );
    let said = Msg::Hello(vec![id(9)], 3, 3);
    assert_eq!(lab.hellos(D1), [(secs(1), said)]);
    for dcs in [D0, D1] {
        assert!(matches!(&lab.sent(dcs)[..], [Msg::Ca(_, flags, _)] if flags == "MIO"));
        assert_eq!(lab.hub.peer(dcs).transitions, [2, 1]);
        assert_eq!(lab.hub.peer(dcs).id, Some(id(9)));
    }
    let moved = |it: &Notice| {
        matches!(
            it,
            Notice::Hello {
                to: Bidirectional,
                ..
            }
        )
    };
    assert_eq!(lab.notices().into_iter().filter(moved).count(), 2);
    lab.wait(secs(12));
    let counts = [D0, D1, D2].map(|dcs| lab.hellos(dcs).len());
    assert!(
        counts[0] == 0 && counts[1] >= 4 && counts[2] >= 4,
        "{counts:?}"
    );
    lab.send(D1, &hello(&[]));
    assert_eq!(
        states(&lab),
        [Unidirectional, Unidirectional, Waiting, Waiting]
    );
    assert_eq!(
        [D0, D1].map(|dcs| lab.alignment(dcs)),
        [Alignment::Down; 2],
        "H-13"
    );
}

/// Goal: what resets one instance of a family resets all, whatever it was, and no other.
#[test]
fn h_14_abnormal_events_reset_the_family() {
    for cause in [
        Abnormal::Cleared,
        Abnormal::Malformed,
        Abnormal::CsuRetransmit,
    ] {
        let mut lab = lab();
        for dcs in [D0, D2, D3] {
            lab.meet(dcs);
        }
        let now = lab.now();
        match cause {
            Abnormal::Cleared => lab.hub.control.handle_clear(now, D0),
            Abnormal::Malformed => {
                let from = id(9);
                let mut bytes = Msg::Reply(vec![sum(b"k", 9, 1)]).build(
                    &lab.hub.setup,
                    D0,
                    from.as_bytes(),
                    id(LSID).as_bytes(),
                );
                bytes[32] = 200; // the record's key length
                scsp_wire::checksum::seal(&mut bytes);
                lab.send_bytes(D0, &bytes);
            }
            Abnormal::CsuRetransmit
            | Abnormal::CsusRetransmit
            | Abnormal::Authentication
            | Abnormal::IdChanged => {
                let note = scsp_engine::ToControl::Abnormal {
                    dcs: D0,
                    epoch: scsp_engine::message::Epoch(1),
                    cause,
                    count: 1,
                };
                lab.hub.control.handle_message(now, note);
            }
        }
        lab.collect();
        assert_eq!(
            states(&lab),
            [Waiting, Waiting, Bidirectional, Bidirectional],
            "{cause:?}"
        );
        assert_eq!([D0, D1].map(|dcs| lab.alignment(dcs)), [Alignment::Down; 2]);
        assert_eq!(lab.hub.peer(D0).abnormal.iter().sum::<u64>(), 1);
        assert_eq!(lab.hub.peer(D1).abnormal.iter().sum::<u64>(), 0);
        lab.meet(D1);
        assert_eq!(states(&lab), [Bidirectional; 4]);
    }
}

/// Goal: the own id, another id than expected, and a changed id of a server are its family's.
#[test]
fn h_14_d_10_d_11_ids_are_the_familys() {
    let mut lab = Lab::with(&[9, 9, 9, 7], |setup| {
        adapt(setup);
        setup.dcs[1].expected_id = Some(id(9));
    });
    let own = id(LSID);
    lab.send_as(D0, own.as_bytes(), &[], &hello(&[]));
    assert!([D0, D1].iter().all(|dcs| lab.hub.peer(*dcs).duplicate_id));
    assert!(!lab.hub.peer(D2).duplicate_id);
    let expected = Notice::DuplicateId { dcs: D0 };
    assert_eq!(
        lab.notices().iter().filter(|it| **it == expected).count(),
        1
    );
    lab.send_as(D0, id(8).as_bytes(), &[], &hello(&[]));
    assert!(
        lab.notices()
            .contains(&Notice::UnexpectedId { dcs: D0, id: id(8) })
    );
    assert_eq!(states(&lab), [Waiting; 4]);
    lab.meet(D0);
    lab.send_as(D2, id(8).as_bytes(), &[], &hello(&[LSID]));
    lab.send_as(D2, id(6).as_bytes(), &[], &hello(&[LSID]));
    assert_eq!(
        (lab.hub.peer(D1).id, lab.hub.peer(D2).id),
        (Some(id(9)), Some(id(6)))
    );
    assert_eq!(lab.hub.peer(D1).transitions[0], 2, "Waiting, Bidirectional");
    assert_eq!(lab.hub.peer(D2).transitions[0], 4, "by way of Waiting");
}

/// Goal: a Hello of another family than the instance's, or of none, is ignored, counted and said
/// once; it never lends its state to anybody.
#[test]
fn h_14_other_families_do_not_mix() {
    let mut lab = lab();
    let ignored = lab.hub.control.ignored();
    for (dcs, family) in [(D0, 8), (D0, 8), (D1, 0), (D2, 7)] {
        let mut setup = Setup::clone(&lab.hub.setup);
        let instance = setup.dcs[dcs.index()].instance;
        setup.instances[instance.index()].family = FamilyId(family);
        let bytes = hello(&[LSID]).build(&setup, dcs, id(9).as_bytes(), &[]);
        lab.send_bytes(dcs, &bytes);
    }
    assert_eq!(states(&lab), [Waiting; 4]);
    assert_eq!(lab.hub.control.ignored(), ignored + 4);
    let said = lab.notices().into_iter().filter_map(|notice| match notice {
        Notice::UnexpectedFamily { dcs, family } => Some((dcs, family.0)),
        _ => None,
    });
    assert_eq!(said.collect::<Vec<_>>(), [(D0, 8), (D1, 0), (D2, 7)]);
    lab.meet(D1);
    assert_eq!(
        states(&lab),
        [Bidirectional, Bidirectional, Waiting, Waiting]
    );
}

/// Goal: a Hello is found its DCS by family and station whichever instance it names, even one that
/// is not served here; without a family, or with one of nobody's, by instance.
#[test]
fn h_14_a_hello_finds_its_family() {
    let mut setup = setup(LSID, 1, 0);
    adapt(&mut setup);
    let find = |link, station, group, family| {
        let named = (ProtocolId::ATMARP, ServerGroupId(group));
        setup.hello_dcs(LinkIndex(link), station, named, FamilyId(family))
    };
    for group in [1, 2, 3, 99] {
        assert!(find(0, 4, group, 7).is_some_and(|dcs| [D0, D1].contains(&dcs)));
        assert_eq!(find(1, 4, group, 7), Some(D3));
        assert_eq!(find(0, 5, group, 7), None, "another station");
    }
    assert_eq!(find(0, 4, 3, 0), Some(D2));
    assert_eq!(find(0, 4, 1, 0), Some(D1), "to be refused there");
    assert_eq!(find(0, 4, 3, 8), Some(D2), "to be refused there");
    assert_eq!(find(0, 4, 99, 8), None);
}

/// Goal: hubs that share two instances of a family on a multipoint link need one Hello an interval
/// for both, and every pair aligns in both.
#[test]
fn h_14_h_10_one_stream_for_all() {
    let hub = |index: u16| {
        let mut setup = setup(u8::try_from(index + 1).unwrap(), 2, 0);
        setup.instances = vec![member(5, F7), member(4, F7)];
        let others = (0..3).filter(|other| *other != index);
        let at = |(station, instance)| DcsSetup {
            instance: InstanceIndex(instance),
            station,
            ..dcs()
        };
        setup.dcs = others
            .flat_map(|other| [(other, 0), (other, 1)])
            .map(at)
            .collect();
        setup.links = vec![LinkSetup {
            multipoint: true,
            segments: true,
        }];
        Hub::new(setup, at_start())
    };
    let mut world = World::of((0..3).map(hub).collect(), Vec::new());
    world.segments = vec![(0..3).map(|hub| (hub, LinkIndex(0))).collect()];
    world.align();
    world.run(secs(10));
    for other in 0..world.hubs.len() {
        world.hubs[other].hellos = 0;
    }
    world.run(secs(30));
    for hub in &world.hubs {
        assert!((10..=12).contains(&hub.hellos), "{}", hub.hellos);
    }
    let now = world.now();
    world.hubs[0]
        .home(b"k")
        .publish(now, I0, b"k", b"v", None)
        .unwrap();
    world.run(millis(100));
    world.assert_equal();
    assert_eq!(world.hubs[2].entries().len(), 1);
}

/// Goal: the Hellos of a family do not say who is whose neighbour in each of its instances, so
/// nobody is left to another as in a mesh. Method: servers 1 and 4 are neighbours in one instance
/// only; what server 1 sends to everybody in the other one reaches server 4 all the same.
#[test]
fn h_14_csu_15_a_family_is_no_mesh() {
    let hub = |index: u16| {
        let mut setup = setup(u8::try_from(index + 1).unwrap(), 1, 0);
        setup.instances = vec![member(4, F7), member(5, F7)];
        let apart =
            |other, instance| instance == 1 && (index.min(other), index.max(other)) == (0, 3);
        let at = |(station, instance)| DcsSetup {
            instance: InstanceIndex(instance),
            station,
            ..dcs()
        };
        setup.dcs = (0..4)
            .filter(|other| *other != index)
            .flat_map(|other| [(other, 0), (other, 1)])
            .filter(|(other, instance)| !apart(*other, *instance))
            .map(at)
            .collect();
        setup.links = vec![LinkSetup {
            multipoint: true,
            segments: true,
        }];
        Hub::new(setup, at_start())
    };
    let mut world = World::of((0..4).map(hub).collect(), Vec::new());
    world.segments = vec![(0..4).map(|hub| (hub, LinkIndex(0))).collect()];
    world.align();
    world.run(secs(10));
    let (now, second) = (world.now(), InstanceIndex(1));
    let home = world.hubs[0].home(b"k");
    home.publish(now, second, b"k", b"v", None).unwrap();
    world.run(secs(5));
    let held = |hub: &Hub| hub.shards[0].entries(second);
    assert_eq!(world.hubs.iter().map(held).collect::<Vec<_>>(), [1; 4]);
}

fn at_start() -> scsp_engine::Now {
    at(Duration::ZERO)
}
