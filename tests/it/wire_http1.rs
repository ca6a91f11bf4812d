//! HTTP/1.1 through a whole gateway.

use crate::gateway;

#[test]
fn a_gateway_starts_and_answers_for_itself() {
    let gateway = gateway::with(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n[[routes]]\nto = \"static/127.0.0.1:1\"\n",
    )
    .start();
    assert_ne!(gateway.address("edge").port(), 0);
    assert!(gateway.file().starts_with(gateway.directory()));
    assert_eq!(gateway.tell("/live").0, 405);
    assert_eq!(gateway.metric("request_total", &[]) as u64, 0);
}
