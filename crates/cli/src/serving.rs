//! From arguments to what a server needs: the model loaded, its engine running.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use sostenuto_engine::{Engine, EngineHandle, EngineOptions, SamplingParams};
use sostenuto_formats::summary::Parameters;
use sostenuto_formats::{Checkpoint, Layout, LoadedAs};
use sostenuto_model::{MemoryPlan, ModelLimits};
use sostenuto_ops::BackendInfo;
use sostenuto_server::{AppState, ServedModel, SystemClock};

use crate::date::Date;
use crate::error::CliError;
use crate::hash::Fnv64;
use crate::load::{Loaded, Source};
use crate::model_args::{Mode, ModelArgs};
use crate::output;

/// A model that is loaded and answers, and what there is to say about it.
pub(crate) struct Serving {
    /// What the server needs.
    pub(crate) state: AppState,
    /// What was loaded.
    pub(crate) facts: Facts,
}

/// What was loaded, for people.
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) is_demo: bool,
    pub(crate) layout: Layout,
    pub(crate) layers: usize,
    pub(crate) parameters: Parameters,
    pub(crate) weight_bytes: u64,
    pub(crate) loaded_as: LoadedAs,
    pub(crate) own_tokenizer: bool,
    pub(crate) mode: Mode,
    pub(crate) limits: ModelLimits,
    pub(crate) plan: MemoryPlan,
    pub(crate) backend: BackendInfo,
}

impl Serving {
    /// Loads the model and starts its engine with `options`. `name` and `aliases` are what requests may call it.
    pub(crate) fn start(
        args: &ModelArgs,
        name: Option<&str>,
        aliases: &[String],
        date: Option<&Date>,
        options: EngineOptions,
    ) -> Result<Serving, CliError> {
        let source = Source::find(args)?;
        let tokenizer = source.tokenizer()?;
        let limits = args.serving_limits(source.config())?;
        let loaded = source.load(args, &limits)?;
        let facts = Facts::of(&source, &loaded, args.mode, name, tokenizer.is_o200k_harmony());
        let fingerprint = fingerprint(&loaded.checkpoint, &facts);
        let engine = Engine::start(loaded.model, options)?;
        let state = AppState {
            engine,
            tokenizer,
            model: ServedModel {
                name: facts.name.clone(),
                aliases: aliases.to_vec(),
                system_fingerprint: fingerprint,
            },
            sampling: SamplingParams::default(),
            current_date: date.map(|date| date.as_str().to_owned()),
            clock: Arc::new(SystemClock),
            seed: RandomState::new().hash_one(std::process::id()),
        };
        Ok(Serving { state, facts })
    }

    /// The engine.
    pub(crate) fn engine(&self) -> EngineHandle {
        self.state.engine.clone()
    }
}

impl Facts {
    fn of(
        source: &Source,
        loaded: &Loaded,
        mode: Mode,
        name: Option<&str>,
        embedded_tokenizer: bool,
    ) -> Facts {
        let Loaded { checkpoint, model, plan } = loaded;
        Facts {
            name: name.unwrap_or(&source.name).to_owned(),
            is_demo: source.is_demo,
            layout: checkpoint.layout(),
            layers: checkpoint.config().num_hidden_layers,
            parameters: Parameters::of(checkpoint.config()),
            weight_bytes: checkpoint.total_bytes(),
            loaded_as: checkpoint.loaded_as(),
            own_tokenizer: !embedded_tokenizer,
            mode,
            limits: *model.limits(),
            plan: plan.clone(),
            backend: model.info(),
        }
    }

    /// One line: name, layout, size, how it was loaded.
    pub(crate) fn model_line(&self) -> String {
        format!(
            "{}: gpt_oss, {} layout, {} layers, {} parameters ({} active), {}, {}",
            self.name,
            self.layout,
            self.layers,
            output::parameters(self.parameters.total),
            output::parameters(self.parameters.active),
            output::bytes(self.weight_bytes),
            self.loaded_as
        )
    }
}

/// Names weights and backend: configuration, the ends of every tensor, kernels, mode and version.
fn fingerprint(checkpoint: &Checkpoint, facts: &Facts) -> String {
    const END_BYTES: usize = 64;
    let mut hash = Fnv64::new();
    hash.update(checkpoint.config().to_json().as_bytes());
    for tensor in checkpoint.tensors() {
        let end = tensor.bytes.len().min(END_BYTES);
        hash.update(tensor.name.as_bytes());
        hash.update(&tensor.bytes[..end]);
        hash.update(&tensor.bytes[tensor.bytes.len() - end..]);
    }
    for choice in &facts.backend.kernels {
        hash.update(choice.kernel.as_bytes());
    }
    hash.update(facts.mode.name().as_bytes());
    hash.update(env!("CARGO_PKG_VERSION").as_bytes());
    format!("fp_{}", hash.hex())
}
