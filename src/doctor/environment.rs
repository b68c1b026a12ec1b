//! The environment: variables without effect, and platforms that choose the port. Read by [`crate::cli`].

use std::{ffi::OsString, net::SocketAddr};

use super::Finding;

/// Platforms that set the port of a container in `PORT`: a variable that identifies the platform, and its name.
const PLATFORMS: [(&str, &str); 2] = [("DYNO", "Heroku"), ("K_SERVICE", "Cloud Run")];

/// The parts of the environment that no flag reads.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Variables without effect, one text each.
    without_effect: Vec<String>,
    /// The platform, and the port to which it sends requests.
    platform: Option<(&'static str, u16)>,
}

impl Environment {
    /// Creates it from all variables, and from the texts about variables without effect. `PORT` is not read otherwise,
    /// because many programs set it.
    pub fn new(without_effect: Vec<String>, variables: &[(OsString, OsString)]) -> Self {
        let value = |name: &str| variables.iter().find(|(other, _)| other == name).map(|(_, value)| value);
        let port = value("PORT").and_then(|port| port.to_str()?.parse().ok());
        let platform = PLATFORMS.into_iter().find(|(variable, _)| value(variable).is_some());
        Self { without_effect, platform: platform.zip(port).map(|((_, name), port)| (name, port)) }
    }

    /// Findings about variables without effect, in any role.
    pub fn examine(&self) -> Vec<Finding> {
        let text = |text: &String| format!("{text}; remove it, or correct its name");
        self.without_effect.iter().map(|found| Finding::warning("environment", text(found))).collect()
    }

    /// Checks that a role for clients listens on the port to which the platform sends requests.
    pub fn examine_port(&self, listen: SocketAddr) -> Option<Finding> {
        let (platform, port) = self.platform?;
        let fits = listen.port() == port && !listen.ip().is_loopback();
        (!fits).then(|| {
            Finding::warning(
                "environment",
                format!(
                    "{platform} sends requests to the port {port} of PORT, and the role listens on {listen}; give it --listen \
                     0.0.0.0:{port}"
                ),
            )
        })
    }
}
