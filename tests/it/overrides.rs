//! Requests that say where they go, on listeners that let them and on those that do not.

use crate::gateway::{self, Running};
use crate::plain::{Origin, Reply, client, origin};

/// Two listeners with the same routes; one takes overrides.
fn gateway(web: &Origin, next: &Origin, more: &str) -> (Running, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("endpoints.toml");
    std::fs::write(&file, format!("[[services.dev]]\naddress = \"{}\"\n", next.address)).unwrap();
    let text = format!(
        "[[listeners]]\nname = \"inside\"\nlisten = \"127.0.0.1:0\"\noverrides = true\n\
         [[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [discovery.file]\npath = \"{}\"\n\
         [services.web]\nfrom = \"static/{}\"\n[services.web-v2]\nfrom = \"static/{}\"\n\
         [[routes]]\nname = \"shop\"\nmatch = {{ host = \"shop.example\" }}\nto = \"web\"\n{more}",
        file.display(),
        web.address,
        next.address
    );
    (gateway::with(&text).workers(2).start(), directory)
}

fn ask(gateway: &Running, listener: &str, path: &str, fields: &[&str]) -> Reply {
    let mut client = client(gateway.address(listener));
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    client.send(&format!("GET {path} HTTP/1.1\r\nhost: shop.example\r\n{fields}\r\n")).unwrap();
    client.reply().unwrap()
}

fn label(reply: &Reply) -> (u16, String) {
    (reply.status, reply.header("meshless-error").unwrap_or_default().to_owned())
}

#[test]
fn a_header_replaces_where_the_route_leads_where_the_listener_lets_it() {
    let (web, next) = (origin("web"), origin("next"));
    let (gateway, _directory) = gateway(&web, &next, "");
    let body = |listener: &str, field: &str| ask(&gateway, listener, "/", &[field]).body;
    for (field, inside) in [
        ("x-other: 1", "web"),
        ("meshless-route: web-v2", "next"),
        ("meshless-route: file/dev | web", "next"),
        ("l5d-dtab: /svc/web => /svc/web-v2", "next"),
        ("l5d-ctx-dtab: /svc/web => /#/io.l5d.fs/dev", "next"),
        ("l5d-dtab: /svc/shop.example => /svc/web-v2", "next"),
        ("l5d-dtab: /svc/users => /svc/web-v2", "web"),
    ] {
        assert_eq!(body("inside", field), inside, "{field}");
        assert_eq!(body("edge", field), "web", "{field} is not taken at the edge");
    }
}

#[test]
fn the_next_hop_sees_what_is_to_be_honoured_there_and_from_the_edge_it_sees_nothing() {
    let (web, next) = (origin("web"), origin("next"));
    let (gateway, _directory) = gateway(&web, &next, "");
    let fields = [
        "meshless-route: web",
        "l5d-dtab: /svc/users=>/svc/users-v2",
        "l5d-ctx-dtab: /svc/a => /svc/b",
        "l5d-ctx-deadline: 1700000000000000000 4000000000000000000",
        "l5d-ctx-trace: AAAA",
        "l5d-sample: 1.0",
        "l5d-client-id: admin",
        "x-envoy-max-retries: 9",
        "x-envoy-expected-rq-timeout-ms: 5000",
    ];
    let sees = |listener: &str, name: &str| {
        let dump = ask(&gateway, listener, "/dump", &fields).body.to_ascii_lowercase();
        let prefix = format!("{name}: ");
        dump.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
    };
    let dtab = "/svc/a => /svc/b; /svc/users => /svc/users-v2";
    assert_eq!(sees("inside", "l5d-ctx-dtab").as_deref(), Some(dtab), "as Linkerd 1 did");
    assert_eq!(sees("inside", "l5d-dtab"), None);
    assert_eq!(sees("inside", "meshless-route").as_deref(), Some("web"));
    assert!(sees("inside", "l5d-sample").is_some() && sees("inside", "x-envoy-max-retries").is_some());
    assert_eq!(sees("inside", "l5d-client-id"), None);
    for name in ["l5d-ctx-dtab", "l5d-dtab", "meshless-route", "l5d-sample", "l5d-client-id", "x-envoy-max-retries"] {
        assert_eq!(sees("edge", name), None, "{name}");
    }
    for name in ["l5d-ctx-deadline", "l5d-ctx-trace", "x-envoy-expected-rq-timeout-ms"] {
        assert!(sees("edge", name).is_some() && sees("inside", name).is_some(), "{name}");
    }
}

#[test]
fn a_chain_of_gateways_honours_an_override_of_the_last_one() {
    let (web, next) = (origin("web"), origin("next"));
    let (last, _directory) = gateway(&web, &next, "");
    let to_last = last.address("inside");
    let first = gateway::with(&format!(
        "[[listeners]]\nname = \"inside\"\nlisten = \"127.0.0.1:0\"\noverrides = true\n\
         [services.last]\nfrom = \"static/{to_last}\"\n[[routes]]\nto = \"last\"\n"
    ))
    .start();
    assert_eq!(ask(&first, "inside", "/", &[]).body, "web");
    assert_eq!(ask(&first, "inside", "/", &["l5d-dtab: /svc/web => /svc/web-v2"]).body, "next");
}

#[test]
fn what_does_not_map_is_refused_and_says_which_entry_and_why() {
    let (web, next) = (origin("web"), origin("next"));
    let (gateway, _directory) = gateway(&web, &next, "");
    let elsewhere = format!("static/{}", next.address);
    for (field, expected, said) in [
        ("meshless-route: web |".to_owned(), "override_malformed", "found the end"),
        ("meshless-route: nobody".to_owned(), "override_refused", "there is no service `nobody`"),
        (format!("meshless-route: {elsewhere}"), "override_refused", "addresses are not taken from a header"),
        ("meshless-route: file/UP".to_owned(), "override_refused", "`file/UP` cannot be had"),
        ("l5d-dtab: /svc/web".to_owned(), "override_malformed", "expected `=>`"),
        (
            format!("l5d-dtab: /svc/web => /$/inet/127.0.0.1/{}", next.address.port()),
            "override_refused",
            "dtab: `/svc/web => /$/inet/127.0.0.1/",
        ),
        ("l5d-dtab: /svc/web => /svc/nobody".to_owned(), "override_refused", "no service and no logical name `nobody`"),
    ] {
        let reply = ask(&gateway, "inside", "/", &[&field]);
        assert_eq!(label(&reply), (400, expected.to_owned()), "{field}: {}", reply.body);
        assert!(reply.body.contains(said), "{field}: {}", reply.body);
    }
    assert_eq!(label(&ask(&gateway, "inside", "/", &["l5d-dtab: /svc/web => !"])), (503, "no_endpoint".to_owned()));
    assert_eq!(label(&ask(&gateway, "inside", "/", &["meshless-route: file/nobody"])), (503, "no_endpoint".to_owned()));
    assert_eq!((web.requests(), next.requests()), (0, 0), "nothing of this reached anybody");
}

#[test]
fn what_no_route_and_no_name_knows_stays_unknown() {
    let (web, next) = (origin("web"), origin("next"));
    let names = "[[names]]\nmatch = \"{service}.mesh\"\ntarget = \"file/{service}\"\n";
    let (gateway, _directory) = gateway(&web, &next, names);
    let ask = |host: &str, field: &str| {
        let mut client = client(gateway.address("inside"));
        client.send(&format!("GET / HTTP/1.1\r\nhost: {host}\r\n{field}\r\n\r\n")).unwrap();
        let reply = client.reply().unwrap();
        (reply.status, reply.body)
    };
    assert_eq!(ask("elsewhere.example", "meshless-route: web-v2").0, 404);
    assert_eq!(ask("dev.mesh", "x-other: 1"), (200, "next".to_owned()));
    assert_eq!(ask("dev.mesh", "meshless-route: web"), (200, "web".to_owned()));
    assert_eq!(ask("dev.mesh", "l5d-dtab: /svc/dev.mesh => /svc/web"), (200, "web".to_owned()));
    assert_eq!(ask("shop.example", "l5d-dtab: /svc/web => /svc/dev.mesh"), (200, "next".to_owned()));
}

#[test]
fn a_target_of_an_override_is_counted_under_one_name_whatever_a_client_writes() {
    let (web, next) = (origin("web"), origin("next"));
    let (gateway, _directory) = gateway(&web, &next, "");
    assert_eq!(ask(&gateway, "inside", "/", &["meshless-route: file/dev"]).body, "next");
    assert_eq!(gateway.count("request_total", &["service=\"(override)\""]), 1);
    assert_eq!(gateway.count("meshless_live_names", &[]), 1);
    assert!(gateway.admin("/endpoints").1.contains("\"file/dev\""));
    assert_eq!(gateway.count("request_total", &["file/dev"]), 0);
    assert_eq!(gateway.count("response_total", &["file/dev"]), 0);
}
