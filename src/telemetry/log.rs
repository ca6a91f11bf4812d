//! The gateway's own log: `tracing` to standard error, its level changeable while it runs.
//!
//! Text on a terminal, JSON elsewhere, one event a line. Standard output belongs to the access log.

use std::fmt;
use std::io;

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt as layer, reload};

/// How events look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// One line for people.
    Text,
}

impl LogFormat {
    /// Text for a person, JSON for a collector.
    pub fn for_terminal(is_terminal: bool) -> Self {
        if is_terminal { Self::Text } else { Self::Json }
    }
}

/// Why there is no log, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// What was asked for is not a filter.
    #[error("`{filter}` is not a log level: {reason}; write error, warn, info, debug, trace or off, or TARGET=LEVEL,…")]
    Malformed {
        /// What was written.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The process has a log already.
    #[error("the log is installed already")]
    Installed,
    /// The log was torn down.
    #[error("the log is gone")]
    Gone,
}

/// Changes what is logged; clones change the same log.
#[derive(Clone)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl fmt::Debug for LogLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("LogLevel").field(&self.current().unwrap_or_default()).finish()
    }
}

impl LogLevel {
    /// Returns the filter in force.
    pub fn current(&self) -> Result<String, LogError> {
        self.0.with_current(ToString::to_string).map_err(|_| LogError::Gone)
    }

    /// Sets the filter, such as `debug` or `info,meshless::proxy=trace`.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        self.0.reload(parse(filter)?).map_err(|_| LogError::Gone)
    }
}

/// Returns the filter for `-v` given so many times and for the variable `RUST_LOG`, which wins.
pub fn filter(verbosity: u8, variable: Option<&str>) -> String {
    match (variable, verbosity) {
        (Some(variable), _) if !variable.trim().is_empty() => variable.trim().to_owned(),
        (_, 0) => "info".into(),
        // Of the libraries only what a person should know, or their wire dumps bury ours.
        (_, 1) => "info,meshless=debug".into(),
        (_, 2) => "info,meshless=trace".into(),
        (_, _) => "trace".into(),
    }
}

/// Installs the log of the process, on standard error; a second call is an error.
pub fn install(format: LogFormat, filter: &str) -> Result<LogLevel, LogError> {
    let (subscriber, level) = build(format, filter, io::stderr)?;
    subscriber.try_init().map_err(|_| LogError::Installed)?;
    Ok(level)
}

/// Builds a log without installing it.
pub fn build<W>(
    format: LogFormat,
    filter: &str,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync + 'static, LogLevel), LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let events = match format {
        // Fields stay in an object of their own: flattened, our `target` would be a second member of that name.
        LogFormat::Json => layer::layer().json().with_writer(writer).boxed(),
        LogFormat::Text => layer::layer().compact().with_writer(writer).with_ansi(false).boxed(),
    };
    Ok((tracing_subscriber::registry().with(filter).with(events), LogLevel(handle)))
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let malformed = |reason: String| LogError::Malformed { filter: filter.into(), reason };
    let filter = filter.trim();
    if filter.is_empty() {
        return Err(malformed("it is empty".into()));
    }
    // A lone word that is no level would be taken as a target, and switch everything else off.
    if !filter.contains(['=', ',', '[']) && filter.parse::<tracing::level_filters::LevelFilter>().is_err() {
        return Err(malformed("no level has that name".into()));
    }
    EnvFilter::try_new(filter).map_err(|error| malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    fn lines() -> (Lines, impl Fn() -> Lines + Send + Sync + 'static) {
        let lines = Lines::default();
        (lines.clone(), move || lines.clone())
    }

    #[test]
    fn the_level_changes_while_it_runs() {
        let (lines, writer) = lines();
        let (subscriber, level) = build(LogFormat::Text, "info", writer).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("Quiet.");
            assert_eq!(lines.take(), "");
            level.set("meshless=debug").unwrap();
            assert_eq!(level.current().unwrap(), "meshless=debug");
            tracing::debug!(service = "web", "Loud.");
            assert!(lines.take().contains("Loud. service=\"web\""));
        });
    }

    #[test]
    fn a_level_that_is_none_is_refused_and_changes_nothing() {
        let (_lines, writer) = lines();
        let (_subscriber, level) = build(LogFormat::Text, "warn", writer).unwrap();
        for filter in ["", "  ", "loud", "a=b=c", "meshless=loud"] {
            let error = level.set(filter).unwrap_err().to_string();
            assert!(error.contains("is not a log level"), "{error}");
        }
        assert_eq!(level.current().unwrap(), "warn");
    }

    #[test]
    fn json_is_one_object_a_line_and_a_field_hides_no_other() {
        let (lines, writer) = lines();
        let (subscriber, _level) = build(LogFormat::Json, "info", writer).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target = "consul/web", "A snapshot is old.\n{}", "forged");
        });
        let text = lines.take();
        assert_eq!(text.lines().count(), 1);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["level"], "WARN");
        assert_eq!(json["target"], "meshless::telemetry::log::tests");
        assert_eq!(json["fields"]["target"], "consul/web");
        assert_eq!(json["fields"]["message"], "A snapshot is old.\nforged");
    }

    #[test]
    fn the_variable_wins_over_the_flag() {
        assert_eq!(filter(0, None), "info");
        assert_eq!(filter(1, Some(" ")), "info,meshless=debug");
        assert_eq!(filter(3, Some("warn")), "warn");
    }
}
