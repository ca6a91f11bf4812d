//! What the `CONSUL_*` variables say, and what they cannot.

use std::path::Path;

use meshless_discovery::{ConsulAddress, ConsulConfig};

use super::{Given, around};
use crate::config::Backend;

fn consul(given: &Given) -> ConsulConfig {
    match given.config().discovery.remove("consul") {
        Some(Backend::Consul(consul)) => consul.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn variables_of_consul_are_taken_where_the_table_says_nothing() {
    let given = around("[discovery.consul]\n")
        .variable("CONSUL_HTTP_ADDR", "https://consul.internal:8501")
        .variable("CONSUL_HTTP_TOKEN", "secret")
        .variable("CONSUL_CACERT", "/c/ca.pem")
        .variable("CONSUL_CLIENT_CERT", "/c/client.pem")
        .variable("CONSUL_CLIENT_KEY", "/c/client.key")
        .variable("CONSUL_TLS_SERVER_NAME", "server.dc1.consul")
        .variable("CONSUL_NAMESPACE", "shop")
        .variable("CONSUL_PARTITION", "east");
    let found = consul(&given);
    assert_eq!(found.address, "https://consul.internal:8501".parse().unwrap());
    assert_eq!((found.token.as_deref(), found.token_file), (Some("secret"), None));
    let files = (found.ca.as_deref(), found.cert.as_deref(), found.key.as_deref());
    let path = |text| Some(Path::new(text));
    assert_eq!(files, (path("/c/ca.pem"), path("/c/client.pem"), path("/c/client.key")));
    assert_eq!(found.server_name.as_deref(), Some("server.dc1.consul"));
    assert_eq!((found.namespace.as_deref(), found.partition.as_deref()), (Some("shop"), Some("east")));
}

#[test]
fn what_is_written_wins_over_variables_and_a_file_over_a_token() {
    let given = around("[discovery.consul]\naddress = \"http://10.0.0.1:8500\"\ntoken_file = \"/c/own\"\n")
        .variable("CONSUL_HTTP_ADDR", "http://10.0.0.2:8500")
        .variable("CONSUL_HTTP_TOKEN", "secret")
        .variable("CONSUL_HTTP_TOKEN_FILE", "/c/other");
    let found = consul(&given);
    assert_eq!(found.address, "http://10.0.0.1:8500".parse().unwrap());
    assert_eq!((found.token, found.token_file.as_deref()), (None, Some(Path::new("/c/own"))));
    let given = around("[discovery.consul]\n")
        .variable("CONSUL_HTTP_TOKEN", "secret")
        .variable("CONSUL_HTTP_TOKEN_FILE", "/c/other");
    let found = consul(&given);
    assert_eq!((found.token, found.token_file.as_deref()), (None, Some(Path::new("/c/other"))));
}

#[test]
fn a_variable_that_asks_for_tls_is_followed_and_an_empty_one_is_not_set() {
    let given = around("[discovery.consul]\n")
        .variable("CONSUL_HTTP_ADDR", "10.0.0.2:8501")
        .variable("CONSUL_HTTP_SSL", "true");
    assert!(matches!(consul(&given).address, ConsulAddress::Https(_)));
    let given = around("[discovery.consul]\n").variable("CONSUL_HTTP_ADDR", "").variable("CONSUL_HTTP_TOKEN", "");
    let found = consul(&given);
    assert_eq!((found.address, found.token), (ConsulAddress::default(), None));
}

#[test]
fn the_check_of_the_agents_certificate_is_never_turned_off() {
    let given = around("[discovery.consul]\n").variable("CONSUL_HTTP_SSL_VERIFY", "false");
    assert!(given.problems().contains("CONSUL_HTTP_SSL_VERIFY turns the check"), "{}", given.problems());
    let given = around("[discovery.consul]\n")
        .variable("CONSUL_HTTP_ADDR", "https://10.0.0.2:8501")
        .variable("CONSUL_CAPATH", "/c");
    assert!(given.problems().contains("CONSUL_CAPATH names a directory"), "{}", given.problems());
    let given = around("[discovery.consul]\n").variable("CONSUL_HTTP_ADDR", "ftp://10.0.0.2");
    assert!(given.problems().contains("the variable CONSUL_HTTP_ADDR"), "{}", given.problems());
}
