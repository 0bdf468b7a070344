//! A server's own view of itself, from its `/metrics`.

use std::collections::HashMap;
use std::time::Duration;

use crate::client::{Client, ClientError};
use crate::error::CliError;

/// Between two looks at a server that is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// One reading of `/metrics`: values by name, summed over labels.
#[derive(Debug)]
pub(crate) struct ServerView(HashMap<String, f64>);

impl ServerView {
    /// Reads the page.
    ///
    /// # Errors
    /// No answer, or a page that is not in Prometheus' text format.
    pub(crate) async fn read(client: &Client) -> Result<ServerView, ClientError> {
        Self::parse(&client.get_text("/metrics").await?)
    }

    /// Reads a page's text.
    ///
    /// # Errors
    /// A line that holds no value.
    pub(super) fn parse(page: &str) -> Result<ServerView, ClientError> {
        let mut values: HashMap<String, f64> = HashMap::new();
        for line in page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let sample = line
                .rsplit_once(' ')
                .and_then(|(series, value)| Some((series.split('{').next()?, value.parse::<f64>().ok()?)));
            let (name, value) =
                sample.ok_or_else(|| ClientError::Unexpected(format!("a line of /metrics is {line:?}")))?;
            *values.entry(name.to_owned()).or_default() += value;
        }
        Ok(ServerView(values))
    }

    /// A value.
    ///
    /// # Errors
    /// The page has none of this name.
    pub(crate) fn value(&self, name: &str) -> Result<f64, CliError> {
        self.0.get(name).copied().ok_or_else(|| {
            CliError::new(format!(
                "the server's /metrics has no {name}: bench stress needs a Sostenuto server"
            ))
        })
    }

    /// Resident bytes of both the server's processes.
    ///
    /// # Errors
    /// As [`ServerView::value`].
    pub(crate) fn resident_bytes(&self) -> Result<f64, CliError> {
        Ok(self.value("process_resident_memory_bytes")?
            + self.value("sostenuto:engine_resident_memory_bytes")?)
    }

    /// Whether neither the server nor its engine was replaced by `after`.
    ///
    /// # Errors
    /// As [`ServerView::value`].
    pub(crate) fn same_processes(&self, after: &ServerView) -> Result<bool, CliError> {
        let mut same = true;
        for name in ["process_start_time_seconds", "sostenuto:engine_restarts_total"] {
            same &= self.value(name)? == after.value(name)?;
        }
        Ok(same)
    }

    /// Answers that ended, however.
    ///
    /// # Errors
    /// As [`ServerView::value`].
    pub(crate) fn ended_answers(&self) -> Result<f64, CliError> {
        self.value("vllm:request_success_total")
    }

    /// Whether nothing runs, waits or is held, and only the connection of this reading is open.
    ///
    /// # Errors
    /// As [`ServerView::value`].
    pub(crate) fn is_idle(&self) -> Result<bool, CliError> {
        let busy = self.value("vllm:num_requests_running")?
            + self.value("vllm:num_requests_waiting")?
            + self.value("vllm:kv_cache_usage_perc")?;
        Ok(busy == 0.0 && self.value("sostenuto:open_connections")? <= 1.0)
    }

    /// Looks at the server until it is idle, or `patience` is over, and returns the last look.
    ///
    /// # Errors
    /// As [`ServerView::read`].
    pub(crate) async fn when_idle(client: &Client, patience: Duration) -> Result<ServerView, CliError> {
        let give_up = tokio::time::Instant::now() + patience;
        loop {
            let view = Self::read(client).await?;
            if view.is_idle()? || tokio::time::Instant::now() >= give_up {
                return Ok(view);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_summed_over_labels() {
        let page = "# HELP x y\n# TYPE x counter\nx_total{a=\"1 2\"} 3\nx_total{a=\"b\"} 4.5\ny 1e3\n";
        let view = ServerView::parse(page).unwrap();
        assert_eq!((view.value("x_total").unwrap(), view.value("y").unwrap()), (7.5, 1000.0));
        assert!(view.value("z").is_err());
        assert!(ServerView::parse("no value here\n").is_err());
    }
}
