//! The server that a load is put on.

use std::path::PathBuf;

use clap::Args;

use crate::client::{Client, DEFAULT_URL, read_api_key};
use crate::error::CliError;

/// Which server, and which of its models.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// The server, over plain http.
    #[arg(long, value_name = "URL", default_value = DEFAULT_URL)]
    url: String,
    /// File with the server's API key (or set SOSTENUTO_API_KEY).
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Name of the model; without it, the first that the server lists.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

impl TargetArgs {
    /// A client for the server, and the model's name.
    ///
    /// # Errors
    /// A URL or key file that is none, or a server that does not answer.
    pub(crate) async fn open(&self) -> Result<(Client, String), CliError> {
        let client = Client::new(&self.url, read_api_key(self.api_key_file.as_deref())?)?;
        let model = match &self.model {
            Some(model) => model.clone(),
            None => client.model_name().await?,
        };
        Ok((client, model))
    }
}
