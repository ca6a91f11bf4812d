//! The part of a Kubernetes API server that issues and reviews tokens of service accounts, and publishes its keys.
//!
//! What real servers answer was taken from the API's reference (`TokenReview`, authentication.k8s.io/v1) and from kube-apiserver 1.33.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request, Response};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::http::{Body, Server, json as reply, text};

/// The token by which an authority must ask.
pub const REVIEWER: &str = "reviewer-token";

/// A key that tokens are signed with.
pub struct Signing {
    kid: String,
    pair: EcdsaKeyPair,
}

impl Signing {
    /// Makes one.
    pub fn new(kid: &str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self { kid: kid.to_owned(), pair: EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap() }
    }

    /// Returns its public half as a JWK.
    pub fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid,
            "x": encode(&point[1..33]), "y": encode(&point[33..]) })
    }

    /// Returns the public point, uncompressed.
    pub fn point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// Signs claims.
    pub fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({ "alg": "ES256", "kid": self.kid }), claims)
    }

    /// Signs claims under any header.
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", encode(signature.as_ref()))
    }
}

/// Returns unpadded base64url.
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns the claims of a token that kubelet would project: of the pod `web-0` of the service account `web` in `default`.
pub fn claims(issuer: &str, audience: &str, now: SystemTime) -> Value {
    let now = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!({
        "iss": issuer, "sub": "system:serviceaccount:default:web", "aud": [audience], "iat": now, "nbf": now,
        "exp": now + 3600, "jti": "5f1d",
        "kubernetes.io": {
            "namespace": "default",
            "node": { "name": "node-1", "uid": "0c1e" },
            "pod": { "name": "web-0", "uid": "6a1c" },
            "serviceaccount": { "name": "web", "uid": "8f0e" },
        },
    })
}

struct State {
    signing: Signing,
    /// Uids of pods that are gone.
    gone: BTreeSet<String>,
    /// Whether it knows audiences; servers that do not take every token of theirs.
    knows_audiences: bool,
    /// Fields that the status of every review gets.
    overrides: Value,
    published: Option<Value>,
}

/// An API server.
pub struct Tokens {
    /// How it is broken as a server.
    pub server: Server,
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tokens").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Starts one.
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            signing: Signing::new("one"),
            gone: BTreeSet::new(),
            knows_audiences: true,
            overrides: json!({}),
            published: None,
        }));
        let of_handler = Arc::clone(&state);
        let server = Server::start(Arc::new(move |request| {
            let answer = answer(&of_handler.lock().unwrap_or_else(PoisonError::into_inner), &request);
            Box::pin(async move { answer })
        }));
        Self { server, state }
    }

    /// Returns the issuer's name: where it listens.
    pub fn issuer(&self) -> String {
        self.server.url()
    }

    /// Returns a token of the pod `web-0`, for an audience.
    pub fn token(&self, audience: &str) -> String {
        self.sign(&claims(&self.issuer(), audience, SystemTime::now()))
    }

    /// Signs any claims.
    pub fn sign(&self, claims: &Value) -> String {
        self.lock().signing.token(claims)
    }

    /// Signs with another key from now on, and publishes that alone.
    pub fn rotate(&self, kid: &str) {
        self.lock().signing = Signing::new(kid);
    }

    /// Deletes a pod, by its uid.
    pub fn delete(&self, uid: &str) {
        self.lock().gone.insert(uid.to_owned());
    }

    /// Knows no audiences any more, as servers before 1.20 with that switched off.
    pub fn forget_audiences(&self) {
        self.lock().knows_audiences = false;
    }

    /// Sets fields in the status of every review.
    pub fn lie(&self, overrides: Value) {
        self.lock().overrides = overrides;
    }

    /// Publishes this discovery document; `None`: its own.
    pub fn publish(&self, document: Option<Value>) {
        self.lock().published = document;
    }

    /// Returns its keys as a set.
    pub fn jwks(&self) -> Value {
        json!({ "keys": [self.lock().signing.jwk()] })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(state: &State, request: &Request<Bytes>) -> Response<Body> {
    let host = request.headers().get("host").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let url = format!("http://{host}");
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/.well-known/openid-configuration") => {
            let own = json!({ "issuer": url, "jwks_uri": format!("{url}/openid/v1/jwks"),
                "response_types_supported": ["id_token"] });
            reply(state.published.as_ref().unwrap_or(&own))
        }
        (&Method::GET, "/openid/v1/jwks") => reply(&json!({ "keys": [state.signing.jwk()] })),
        (&Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews") => review(state, request, &url),
        _ => text(404, "404 page not found\n"),
    }
}

fn review(state: &State, request: &Request<Bytes>, issuer: &str) -> Response<Body> {
    let sent = request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if sent != format!("Bearer {REVIEWER}") {
        return text(401, "Unauthorized");
    }
    let asked: Value = serde_json::from_slice(request.body()).unwrap_or_default();
    if asked["kind"] != "TokenReview" || asked["apiVersion"] != "authentication.k8s.io/v1" {
        return text(400, "no TokenReview");
    }
    let mut status = status(state, &asked["spec"], issuer);
    for (name, value) in state.overrides.as_object().into_iter().flatten() {
        status[name] = value.clone();
    }
    let mut answer = reply(&json!({ "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
        "metadata": {}, "spec": asked["spec"], "status": status }));
    *answer.status_mut() = http::StatusCode::CREATED;
    answer
}

fn status(state: &State, spec: &Value, issuer: &str) -> Value {
    let refuse = |why: &str| json!({ "user": {}, "error": why });
    let token = spec["token"].as_str().unwrap_or_default();
    let Some((signed, signature)) = token.rsplit_once('.') else { return refuse("invalid bearer token") };
    let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, state.signing.point());
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
    if key.verify(signed.as_bytes(), &signature).is_err() {
        return refuse("invalid bearer token");
    }
    let claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap()).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    if claims["iss"] != issuer || claims["exp"].as_u64().is_some_and(|end| end < now) {
        return refuse("token has expired");
    }
    let pod = &claims["kubernetes.io"]["pod"];
    if state.gone.contains(pod["uid"].as_str().unwrap_or_default()) {
        return refuse("pod has been deleted");
    }
    let wanted = spec["audiences"].as_array().cloned().unwrap_or_default();
    let of_token = match &claims["aud"] {
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    let shared: Vec<Value> = wanted.into_iter().filter(|audience| of_token.contains(audience)).collect();
    if state.knows_audiences && shared.is_empty() {
        return refuse("token audiences are invalid for the target audiences");
    }
    let mut status = json!({ "authenticated": true, "user": {
        "username": claims["sub"], "uid": claims["kubernetes.io"]["serviceaccount"]["uid"],
        "groups": ["system:serviceaccounts", "system:authenticated"],
        "extra": {
            "authentication.kubernetes.io/pod-name": [pod["name"]],
            "authentication.kubernetes.io/pod-uid": [pod["uid"]],
        } } });
    if state.knows_audiences {
        status["audiences"] = json!(shared);
    }
    status
}
