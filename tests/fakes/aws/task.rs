//! Tasks as `DescribeTasks` answers them.

use serde_json::{Value, json};

/// Writes a task: of a service, running, in `awsvpc` mode, without a health check.
#[derive(Debug, Clone)]
pub struct Task(Value);

impl Task {
    /// One of the service `service`, of revision 1 of the family of that name, with a number that tells it apart.
    pub fn new(service: &str, number: usize) -> Self {
        Self(json!({
            "taskArn": format!("arn:aws:ecs:eu-west-1:123456789012:task/prod/{number:032x}"),
            "clusterArn": "arn:aws:ecs:eu-west-1:123456789012:cluster/prod",
            "taskDefinitionArn": definition(service, 1),
            "group": format!("service:{service}"),
            "availabilityZone": "eu-west-1a",
            "lastStatus": "RUNNING",
            "desiredStatus": "RUNNING",
            "healthStatus": "UNKNOWN",
            "launchType": "FARGATE",
            "containers": [{ "name": "app", "lastStatus": "RUNNING", "healthStatus": "UNKNOWN",
                "networkBindings": [], "networkInterfaces": [] }],
            "tags": [],
        }))
    }

    /// Gives it a network interface of its own.
    #[must_use]
    pub fn at(mut self, ip: &str) -> Self {
        let field = if ip.contains(':') { "ipv6Address" } else { "privateIpv4Address" };
        self.0["containers"][0]["networkInterfaces"] = json!([{ "attachmentId": "a", field: ip }]);
        self
    }

    /// Puts it on a container instance, in `bridge` mode with these ports of the container and of the instance, or in
    /// `host` mode where there are none.
    #[must_use]
    pub fn on(mut self, instance: &str, bindings: &[(u16, u16)]) -> Self {
        self.0["containerInstanceArn"] = json!(instance);
        self.0["launchType"] = json!("EC2");
        let both = |(container, host): &(u16, u16)| {
            ["0.0.0.0", "::"]
                .map(|ip| json!({ "bindIP": ip, "containerPort": container, "hostPort": host, "protocol": "tcp" }))
        };
        self.0["containers"][0]["networkBindings"] = bindings.iter().flat_map(both).collect();
        self
    }

    /// What it is, and what it is to be.
    #[must_use]
    pub fn status(mut self, last: &str, desired: &str) -> Self {
        self.0["lastStatus"] = json!(last);
        self.0["desiredStatus"] = json!(desired);
        self
    }

    /// Sets what the health checks say of the whole task.
    #[must_use]
    pub fn health(mut self, health: &str) -> Self {
        self.0["healthStatus"] = json!(health);
        self
    }

    /// Sets the revision of its definition.
    #[must_use]
    pub fn revision(mut self, family: &str, revision: usize) -> Self {
        self.0["taskDefinitionArn"] = json!(definition(family, revision));
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.0["tags"].as_array_mut().unwrap().push(json!({ "key": key, "value": value }));
        self
    }

    /// Adds a container with these fields.
    #[must_use]
    pub fn container(mut self, container: Value) -> Self {
        self.0["containers"].as_array_mut().unwrap().push(container);
        self
    }

    /// Sets any field.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.0[field] = value;
        self
    }

    /// Returns it as JSON.
    pub fn json(self) -> Value {
        self.0
    }
}

/// Returns the ARN of a task definition.
pub fn definition(family: &str, revision: usize) -> String {
    format!("arn:aws:ecs:eu-west-1:123456789012:task-definition/{family}:{revision}")
}

/// Returns a task definition with one container `app`, and a port mapping for each name and port.
pub fn definition_with(network_mode: &str, ports: &[(&str, u16)]) -> Value {
    let mappings: Vec<Value> = ports
        .iter()
        .map(|(name, port)| match *name {
            "" => json!({ "containerPort": port, "protocol": "tcp" }),
            _ => json!({ "name": name, "containerPort": port, "protocol": "tcp", "appProtocol": "http" }),
        })
        .collect();
    json!({ "networkMode": network_mode, "containerDefinitions": [{ "name": "app", "portMappings": mappings }] })
}
