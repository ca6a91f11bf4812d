//! An authority without a gateway: `meshless ca serve`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use meshless_certs::authority::Issuer;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::serve::Served;
use crate::admin::{
    self, Access, Admin, AdminListener, ConfigView, EndpointView, ListenerView, Readiness, ServiceView, View,
};
use crate::compose::{Options, StartError};
use crate::config::{self, ListenAddress};
use crate::explain::answer::Explanation;
use crate::explain::{Question, Refusal};
use crate::targets::TargetView;
use crate::telemetry::metrics::{Registry, process};
use crate::telemetry::timestamp::Timestamp;

/// An authority that runs. Dropping it ends it in order.
#[derive(Debug)]
pub struct AuthorityAlone {
    // In this order: who asks whether it is ready is answered to the end.
    _served: Served,
    standing: Arc<Standing>,
    runtime: Option<Runtime>,
    /// Where it serves the network.
    pub address: SocketAddr,
    /// Where the admin interface listens.
    pub admin: ListenAddress,
}

/// What the admin interface is told.
#[derive(Debug)]
struct Standing {
    issuer: Arc<dyn Issuer>,
    config: serde_json::Value,
    warnings: Vec<String>,
    listener: ListenerView,
    loaded: SystemTime,
    draining: AtomicBool,
    ends: Notify,
}

impl AuthorityAlone {
    /// Reads the configuration, opens the authority, and serves it.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        let loaded =
            config::load(&options.paths, &*options.surroundings, &options.sets).map_err(StartError::Configuration)?;
        let unusable = |why: &str| StartError::Unusable(why.to_owned());
        let wanted = loaded.config.ca.as_ref().ok_or_else(|| unusable("there is no `[ca]` in the configuration"))?;
        if wanted.listen.is_none() {
            return Err(unusable("ca.listen is missing: where workloads ask, such as `listen = \"0.0.0.0:8443\"`"));
        }
        let registry = Registry::new(Instant::now().into_std());
        process::register(&registry);
        let served = super::start(&loaded.config, &*options.surroundings, &registry)?;
        let served = served.ok_or_else(|| unusable("there is no `[ca]` in the configuration"))?;
        let address = served.address().ok_or_else(|| unusable("ca.listen has no address"))?;
        let standing = Arc::new(Standing {
            issuer: served.issuer().clone(),
            config: serde_json::to_value(&loaded.config).unwrap_or_default(),
            warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
            listener: ListenerView {
                name: "ca".to_owned(),
                address: address.to_string(),
                protocol: "http".to_owned(),
                connections: 0,
            },
            loaded: SystemTime::now(),
            draining: AtomicBool::new(false),
            ends: Notify::new(),
        });
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("admin").enable_all().build()?;
        let entered = runtime.enter();
        let listener = AdminListener::bind(&loaded.config.admin.listen, Access::Full)?;
        let admin_address = listener.address()?;
        let probes = loaded.config.admin.probes.as_ref().map(|address| AdminListener::bind(address, Access::Probes));
        let admin = Admin { view: standing.clone(), registry, log_level: options.log_level.clone() };
        if let Some(probes) = probes.transpose()? {
            runtime.spawn(admin::serve(probes, admin.clone()));
        }
        runtime.spawn(admin::serve(listener, admin));
        drop(entered);
        Ok(Self { _served: served, standing, runtime: Some(runtime), address, admin: admin_address })
    }

    /// Waits until the admin interface is told to drain.
    pub async fn told_to_end(&self) {
        self.standing.ends.notified().await;
    }

    /// Says that it is not ready any more, so that nobody new is sent here.
    pub fn drain(&self) {
        self.standing.drain();
    }
}

impl Drop for AuthorityAlone {
    fn drop(&mut self) {
        self.standing.drain();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_millis(200));
        }
    }
}

impl View for Standing {
    fn readiness(&self) -> Readiness {
        let mut reasons = Vec::new();
        if self.draining.load(Ordering::Acquire) {
            reasons.push("draining".to_owned());
        }
        if self.issuer.serving().left(SystemTime::now()).is_zero() {
            reasons.push("the authority's own certificate has expired; the log says why".to_owned());
        }
        Readiness { ready: reasons.is_empty(), reasons, warnings: Vec::new() }
    }

    fn config(&self) -> ConfigView {
        ConfigView {
            version: 1,
            loaded_at: Timestamp(self.loaded).to_string(),
            last_error: None,
            warnings: self.warnings.clone(),
            pending_restart: Vec::new(),
            listeners: vec![self.listener.clone()],
            config: self.config.clone(),
        }
    }

    fn services(&self) -> Vec<ServiceView> {
        Vec::new()
    }

    fn endpoints(&self, _service: Option<&str>) -> Vec<EndpointView> {
        Vec::new()
    }

    fn targets(&self) -> Vec<TargetView> {
        Vec::new()
    }

    fn explain(&self, _question: &Question) -> Result<Explanation, Refusal> {
        Err(Refusal::new("this process is an authority alone and routes nothing", "ask a gateway (`meshless run`)"))
    }

    fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.ends.notify_one();
    }
}
