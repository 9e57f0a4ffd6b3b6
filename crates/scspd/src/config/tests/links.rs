//! Links of every kind, the addresses of their peers, and families.

use super::{good, refused, refused_each};

/// Goal: which keys belong to which kind of link, what each expects, and what is needed.
#[test]
fn keys_belong_to_kinds_of_links() {
    refused_each(&[
        (
            "[link.a]\ngroup = \"239.1.1.1:2334\"",
            "hub.toml:2: link.a.group: only links of kind \"multicast\" or \"ethernet\" have this key",
        ),
        (
            "[link.a]\ninterface = \"eth1\"",
            "hub.toml:2: link.a.interface: only links of kind \"multicast\" or \"ethernet\" have this key",
        ),
        (
            "[link.a]\nkind = \"ethernet\"\ninterface = \"eth1\"\nbind = \"10.0.0.1:1\"",
            "hub.toml:4: link.a.bind: only links of kind \"udp\" or \"multicast\" have this key",
        ),
        (
            "[link.a]\nkind = \"ethernet\"",
            "hub.toml:1: link.a.interface: missing, expected the name of a network interface, such as \"eth1\"",
        ),
        (
            "[link.a]\nkind = \"ethernet\"\ninterface = \"a/b\"",
            "hub.toml:3: link.a.interface: expected the name of a network interface, such as \"eth1\", got \"a/b\"",
        ),
        (
            "[link.a]\nkind = \"ethernet\"\ninterface = \"eth1\"\ngroup = \"02:00:00:00:00:01\"",
            "hub.toml:4: link.a.group: expected a multicast MAC address, such as \"03:00:00:00:23:34\", not that of everyone, got \"02:00:00:00:00:01\"",
        ),
        (
            "[link.a]\nkind = \"ethernet\"\ninterface = \"eth1\"\ngroup = \"ff:ff:ff:ff:ff:ff\"",
            "hub.toml:4: link.a.group: expected a multicast MAC address, such as \"03:00:00:00:23:34\", not that of everyone, got \"ff:ff:ff:ff:ff:ff\"",
        ),
        (
            "[link.a]\nkind = \"ethernet\"\ninterface = \"eth1\"\nmtu = 1501",
            "hub.toml:4: link.a.mtu: expected a whole number from 576 to 1500, got 1501",
        ),
        (
            "[link.a]\nkind = \"multicast\"\ninterface = \"eth1\"\ngroup = \"10.0.0.1:2334\"",
            "hub.toml:4: link.a.group: expected a multicast address with a port, such as \"239.255.23.34:2334\", got \"10.0.0.1:2334\"",
        ),
        (
            "[link.a]\nkind = \"multicast\"\ninterface = \"eth1\"\ngroup = \"[ff02::1%eth1]:2334\"",
            "hub.toml:4: link.a.group: expected an interface only behind a link-local address, got \"[ff02::1%eth1]:2334\"",
        ),
    ]);
    refused(
        "[link.a]\nkind = \"multicast\"",
        &[
            "hub.toml:1: link.a.group: missing, expected a multicast address with a port, such as \"239.255.23.34:2334\"",
            "hub.toml:1: link.a.interface: missing, expected the name of a network interface, such as \"eth1\"",
        ],
    );
}

/// Goal: bind and group of a multicast link fit each other and its interface.
#[test]
fn multicast_links_fit_together() {
    let link = |bind: &str, group: &str| {
        format!(
            "[link.a]\nkind = \"multicast\"\ninterface = \"eth1\"\nbind = \"{bind}\"\ngroup = \"{group}\""
        )
    };
    let four = "239.1.1.1:2334";
    let six = "[ff02::2334]:2334";
    for (bind, group) in [
        ("10.0.0.1:2334", four),
        ("[2001:db8::1]:2334", six),
        ("[fe80::1]:2334", six),
        ("[fe80::1%eth1]:2334", six),
    ] {
        good(&link(bind, group));
    }
    for (bind, group, message) in [
        (
            "[::]:2334",
            four,
            "expected an IPv4 address, since the group is 239.1.1.1:2334, got [::]:2334",
        ),
        (
            "0.0.0.0:2334",
            six,
            "expected an IPv6 address, since the group is [ff02::2334]:2334, got 0.0.0.0:2334",
        ),
        (
            "0.0.0.0:2335",
            four,
            "expected the group's port 2334, got 0.0.0.0:2335",
        ),
        (
            "[fe80::1%eth2]:2334",
            six,
            "expected an address on the link's interface eth1, got [fe80::1%eth2]:2334",
        ),
    ] {
        refused(
            &link(bind, group),
            &[&format!("hub.toml:4: link.a.bind: {message}")],
        );
    }
}

/// Goal: links clash where the kernel could not tell them apart, and only there.
#[test]
fn links_share_what_they_can() {
    let multicast = |name: &str, interface: &str| {
        format!(
            "[link.{name}]\nkind = \"multicast\"\ninterface = \"{interface}\"\ngroup = \"239.1.1.1:2334\"\n"
        )
    };
    let ethernet = |name: &str, interface: &str| {
        format!("[link.{name}]\nkind = \"ethernet\"\ninterface = \"{interface}\"\n")
    };
    good(&format!(
        "[link.main]\nbind = \"0.0.0.0:2334\"\n{}{}{}{}",
        multicast("a", "eth1"),
        multicast("b", "eth2"),
        ethernet("c", "eth1"),
        ethernet("d", "eth2"),
    ));
    refused_each(&[
        (
            &format!("{}{}", multicast("a", "eth1"), multicast("b", "eth1")),
            "hub.toml:5: link.b.bind: 0.0.0.0:2334 on interface eth1 is already used by link.a",
        ),
        (
            &format!("{}{}", ethernet("a", "eth1"), ethernet("b", "eth1")),
            "hub.toml:6: link.b.interface: eth1 is already used by link.a",
        ),
    ]);
}

const LINKS: &str = r#"
[link.six]
bind = "[::]:2334"
[link.near]
bind = "[fe80::1%eth0]:2335"
[link.lan]
kind = "multicast"
interface = "eth1"
group = "[ff02::2334]:2334"
[link.raw]
kind = "ethernet"
interface = "eth1"
[[group]]
[[group.peer]]
"#;

/// Goal: a peer's address is of the kind of its link, names one host, and can be reached there.
#[test]
fn peers_fit_their_links() {
    const HOST: &str = "the address of one host with a port, such as \"10.0.0.2:2334\"";
    const STATION: &str = "the MAC address of one station, such as \"02:00:00:00:00:02\"";
    for (link, address) in [
        ("six", "[2001:db8::2]:2334"),
        ("six", "[fe80::2%eth0]:2334"),
        ("six", "[fe80::2%17]:2334"),
        ("near", "[fe80::2%eth0]:2334"),
        ("lan", "[fe80::2]:2334"),
        ("lan", "[fe80::2%eth1]:2334"),
        ("lan", "[2001:db8::2]:2334"),
        ("raw", "02:00:00:00:00:02"),
    ] {
        let config = good(&format!(
            "{LINKS}link = \"{link}\"\naddress = \"{address}\""
        ));
        assert_eq!(config.groups[0].peers[0].address.to_string(), address);
    }
    for (link, address, message) in [
        (
            "six",
            "[fe80::2]:2334",
            "expected the interface of a link-local address as well, such as \"[fe80::1%eth0]:2334\", got \"[fe80::2]:2334\"".to_owned(),
        ),
        (
            "six",
            "[2001:db8::2%eth0]:2334",
            "expected an interface only behind a link-local address, got \"[2001:db8::2%eth0]:2334\"".to_owned(),
        ),
        (
            "six",
            "[::ffff:10.0.0.2]:2334",
            "expected the IPv4 address itself instead of an IPv4-mapped one, got \"[::ffff:10.0.0.2]:2334\"".to_owned(),
        ),
        (
            "six",
            "02:00:00:00:00:02",
            format!("expected {HOST}, got \"02:00:00:00:00:02\""),
        ),
        (
            "near",
            "[fe80::2%eth1]:2334",
            "[fe80::2%eth1]:2334 cannot be reached from [fe80::1%eth0]:2335, to which link.near is bound".to_owned(),
        ),
        (
            "lan",
            "[fe80::2%eth0]:2334",
            "expected an address on eth1, the interface of link.lan, got [fe80::2%eth0]:2334".to_owned(),
        ),
        (
            "lan",
            "[ff02::2334]:2334",
            format!("expected {HOST}, got \"[ff02::2334]:2334\""),
        ),
        (
            "lan",
            "10.0.0.2:2334",
            "expected an IPv6 address, since link.lan is bound to [::]:2334, got 10.0.0.2:2334".to_owned(),
        ),
        (
            "raw",
            "10.0.0.2:2334",
            format!("expected {STATION}, got \"10.0.0.2:2334\""),
        ),
        (
            "raw",
            "03:00:00:00:00:02",
            format!("expected {STATION}, got \"03:00:00:00:00:02\""),
        ),
        (
            "raw",
            "00:00:00:00:00:00",
            format!("expected {STATION}, got \"00:00:00:00:00:00\""),
        ),
    ] {
        refused(
            &format!("{LINKS}link = \"{link}\"\naddress = \"{address}\""),
            &[&format!("hub.toml:16: group[0].peer[0].address: {message}")],
        );
    }
}

/// Goal: what a listener cannot be bound to is refused with its reason.
#[test]
fn listeners_take_ipv6_in_every_form() {
    good("[client]\nlisten = [\"[fe80::1%eth0]:6390\"]\n[admin]\nlisten = \"[::]:9144\"");
    refused_each(&[
        (
            "[client]\nlisten = [\"[::ffff:127.0.0.1]:6390\"]",
            "hub.toml:2: client.listen: expected the IPv4 address itself instead of an IPv4-mapped one, got \"[::ffff:127.0.0.1]:6390\"",
        ),
        (
            "[admin]\nlisten = \"[fe80::1]:9144\"",
            "hub.toml:2: admin.listen: expected the interface of a link-local address as well, such as \"[fe80::1%eth0]:2334\", got \"[fe80::1]:9144\"",
        ),
    ]);
}

/// Goal: H-14: groups that share their Hellos agree on what those say.
#[test]
fn h_14_groups_of_a_family_have_equal_hellos() {
    let groups = |first: &str, second: &str| {
        format!("[[group]]\nname = \"a\"\n{first}\n[[group]]\nname = \"b\"\nid = 2\n{second}")
    };
    good(&groups(
        "family = 7\nhello_interval = 5",
        "family = 7\nhello_interval = 5",
    ));
    good(&groups("family = 7\nhello_interval = 5", "family = 8"));
    good(&groups("family = 0\nhello_interval = 5", "family = 0"));
    refused_each(&[
        (
            &groups("family = 7", "family = 7\nhello_interval = 5"),
            "hub.toml:8: group[1].hello_interval: expected 3 as in group[0] \"a\", which is of family 7 too, got 5",
        ),
        (
            &groups("family = 7\ndead_factor = 4", "family = 7"),
            "hub.toml:5: group[1].dead_factor: expected 4 as in group[0] \"a\", which is of family 7 too, got 3",
        ),
    ]);
}
