//! The instance metadata service of EC2, version 2: nothing is told without a token.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Response};
use serde_json::json;

use crate::http::{Body, Server, text};

/// A spot instance, until somebody says otherwise.
#[derive(Debug)]
pub struct Instance {
    /// The service.
    pub server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// Tokens are counted; only the last one is good.
    token: u64,
    refuses_tokens: Option<u16>,
    life_cycle: &'static str,
    interruption: Option<String>,
    rebalance: Option<String>,
}

impl Instance {
    /// Starts it on a loopback port.
    pub fn start() -> Self {
        let state = State { token: 1, refuses_tokens: None, life_cycle: "spot", interruption: None, rebalance: None };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        let server = Server::start(Arc::new(move |request| {
            let reply = answer(&request, &shared.lock().unwrap_or_else(PoisonError::into_inner));
            Box::pin(async move { reply })
        }));
        Self { server, state }
    }

    /// Answers whoever asks for a token with this status.
    pub fn refuse_tokens(&self, status: u16) {
        self.change(|state| state.refuses_tokens = Some(status));
    }

    /// Makes every token so far worth nothing.
    pub fn expire_tokens(&self) {
        self.change(|state| state.token += 1);
    }

    /// Makes it an instance that nobody takes back.
    pub fn on_demand(&self) {
        self.change(|state| state.life_cycle = "on-demand");
    }

    /// Says that the instance will be taken back: `terminate`, `stop` or `hibernate`.
    pub fn interrupt(&self, action: &str, time: &str) {
        let notice = json!({ "action": action, "time": time }).to_string();
        self.change(|state| state.interruption = Some(notice));
    }

    /// Says that it may be.
    pub fn recommend_rebalance(&self, time: &str) {
        let notice = json!({ "noticeTime": time }).to_string();
        self.change(|state| state.rebalance = Some(notice));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn answer(request: &Request<Bytes>, state: &State) -> Response<Body> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let path = request.uri().path();
    if path == "/latest/api/token" {
        let seconds = header("x-aws-ec2-metadata-token-ttl-seconds").and_then(|seconds| seconds.parse::<u32>().ok());
        return match (request.method(), state.refuses_tokens, seconds) {
            (_, Some(status), _) => text(status, ""),
            (&Method::PUT, None, Some(1..=21_600)) => text(200, token(state)),
            (&Method::PUT, None, _) => text(400, ""),
            _ => text(405, ""),
        };
    }
    if header("x-aws-ec2-metadata-token") != Some(&token(state)) {
        return text(401, "");
    }
    let found = |notice: &Option<String>| notice.clone().map_or_else(|| text(404, ""), |notice| text(200, notice));
    match path {
        "/latest/dynamic/instance-identity/document" => {
            let document = json!({
                "accountId": "111122223333", "architecture": "arm64", "availabilityZone": "eu-west-1a",
                "billingProducts": null, "imageId": "ami-0abc", "instanceId": "i-0123456789abcdef0",
                "instanceType": "m7g.large", "pendingTime": "2026-11-23T07:00:00Z", "privateIp": "10.0.3.7",
                "region": "eu-west-1", "version": "2017-09-30"
            });
            text(200, document.to_string())
        }
        "/latest/meta-data/instance-life-cycle" => text(200, state.life_cycle),
        "/latest/meta-data/spot/instance-action" => found(&state.interruption),
        "/latest/meta-data/events/recommendations/rebalance" => found(&state.rebalance),
        _ => text(404, ""),
    }
}

fn token(state: &State) -> String {
    format!("TOKEN-{}==", state.token)
}
