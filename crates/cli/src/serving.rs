//! From arguments to what a server needs: the model loaded, its engine running.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use sostenuto_engine::{
    Engine, EngineClient, EngineHandle, EngineOptions, Event, GenerateRequest, SamplingParams,
};
use sostenuto_formats::summary::Parameters;
use sostenuto_formats::{Checkpoint, Layout, LoadedAs};
use sostenuto_model::{MemoryPlan, ModelLimits};
use sostenuto_ops::BackendInfo;
use sostenuto_server::{AppState, ServedModel, SystemClock};
use sostenuto_tokenizer::Tokenizer;

use crate::backend;
use crate::date::Date;
use crate::error::CliError;
use crate::hash::Fnv64;
use crate::load::{Loaded, Source};
use crate::model_args::{Mode, ModelArgs};
use crate::output;

/// A model that is loaded and answers in this process, and what there is to say about it.
pub(crate) struct Serving {
    /// What the server needs.
    pub(crate) state: AppState,
    /// What was loaded.
    pub(crate) facts: Facts,
    /// The engine.
    pub(crate) engine: EngineHandle,
}

/// What a server must know of its model, wherever the weights are.
pub(crate) struct Description {
    pub(crate) is_demo: bool,
    pub(crate) limits: ModelLimits,
    tokenizer: Arc<Tokenizer>,
    model: ServedModel,
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
    pub(crate) load_time: Duration,
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
        let limits = args.serving_limits(source.config())?;
        let loaded = source.load(args, &limits)?;
        let description = Description::of(&source, &loaded.checkpoint, limits, args, name, aliases)?;
        let facts = Facts::of(&source, &loaded, args.mode, name)?;
        let engine = Engine::start(loaded.model, options)?;
        prove(&engine)?;
        Ok(Serving { state: description.app_state(Arc::new(engine.clone()), date), facts, engine })
    }
}

impl Description {
    /// Of a checkpoint that is open, if not in memory.
    pub(crate) fn of(
        source: &Source,
        checkpoint: &Checkpoint,
        limits: ModelLimits,
        args: &ModelArgs,
        name: Option<&str>,
        aliases: &[String],
    ) -> Result<Description, CliError> {
        // One thread: it is asked for its kernels and let go.
        let backend = backend::choose(&ModelArgs { threads: Some(1), ..args.clone() })?.info();
        Ok(Description {
            is_demo: source.is_demo,
            limits,
            tokenizer: source.tokenizer()?,
            model: ServedModel {
                name: name.unwrap_or(&source.name).to_owned(),
                aliases: aliases.to_vec(),
                system_fingerprint: fingerprint(checkpoint, &backend, args)?,
            },
        })
    }

    /// The model's name in the API.
    pub(crate) fn name(&self) -> &str {
        &self.model.name
    }

    /// What a server needs.
    pub(crate) fn app_state(self, engine: Arc<dyn EngineClient>, date: Option<&Date>) -> AppState {
        AppState {
            engine,
            tokenizer: self.tokenizer,
            model: self.model,
            sampling: SamplingParams::default(),
            current_date: date.map(|date| date.as_str().to_owned()),
            clock: Arc::new(SystemClock),
            seed: RandomState::new().hash_one(std::process::id()),
        }
    }
}

/// Lets one token through.
fn prove(engine: &EngineHandle) -> Result<(), CliError> {
    let (sender, events) = std::sync::mpsc::sync_channel(3);
    engine.submit(GenerateRequest::greedy(vec![0], 1), sender)?;
    match events.iter().find(|event| !matches!(event, Event::Started { .. })) {
        Some(Event::Token(_)) => Ok(()),
        Some(Event::Failed(error)) => Err(CliError::from(error).context("the engine does not work")),
        other => Err(CliError::new(format!("the engine does not work: its first token is {other:?}"))),
    }
}

impl Facts {
    pub(crate) fn of(
        source: &Source,
        loaded: &Loaded,
        mode: Mode,
        name: Option<&str>,
    ) -> Result<Facts, CliError> {
        let Loaded { checkpoint, model, plan, load_time } = loaded;
        Ok(Facts {
            name: name.unwrap_or(&source.name).to_owned(),
            is_demo: source.is_demo,
            layout: checkpoint.layout(),
            layers: checkpoint.config().num_hidden_layers,
            parameters: Parameters::of(checkpoint.config()),
            weight_bytes: checkpoint.total_bytes(),
            loaded_as: checkpoint.loaded_as(),
            load_time: *load_time,
            own_tokenizer: !source.tokenizer()?.is_o200k_harmony(),
            mode,
            limits: *model.limits(),
            plan: plan.clone(),
            backend: model.info(),
        })
    }

    /// One line: name, layout, size, how it was loaded and in what time.
    pub(crate) fn model_line(&self) -> String {
        format!(
            "{}: gpt_oss, {} layout, {} layers, {} parameters ({} active), {}, {}, loaded in {:.2} s",
            self.name,
            self.layout,
            self.layers,
            output::parameters(self.parameters.total),
            output::parameters(self.parameters.active),
            output::bytes(self.weight_bytes),
            self.loaded_as,
            self.load_time.as_secs_f64()
        )
    }
}

/// Names weights and backend: configuration, the ends of every tensor, kernels, mode, KV type and version.
fn fingerprint(checkpoint: &Checkpoint, backend: &BackendInfo, args: &ModelArgs) -> Result<String, CliError> {
    const END_BYTES: usize = 64;
    let mut hash = Fnv64::new();
    hash.update(checkpoint.config().to_json().as_bytes());
    for info in checkpoint.tensor_infos() {
        hash.update(info.name.as_bytes());
        for end in checkpoint.tensor_ends(&info.name, END_BYTES)? {
            hash.update(&end);
        }
    }
    for choice in &backend.kernels {
        hash.update(choice.kernel.as_bytes());
    }
    hash.update(args.mode.name().as_bytes());
    hash.update(args.kv_dtype().name().as_bytes());
    hash.update(env!("CARGO_PKG_VERSION").as_bytes());
    Ok(format!("fp_{}", hash.hex()))
}
