//! Weights from a checkpoint onto a device, one after another.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::sync::mpsc;
use std::thread;

use sostenuto_formats::{Checkpoint, LoadedAs, ModelConfig, SharedBytes, WeightRef};
use sostenuto_ops::{Backend, WeightData, WeightId, WeightSpec};

use crate::error::ModelError;
use crate::weights::{self, Weights};

/// Kept weights below this size are copied: the pages around them that a fault maps, a huge one at worst, would hold more
/// than them.
const MIN_BYTES_IN_PLACE: usize = 2 << 20;

/// How weights come onto the device.
pub struct WeightLoading<'a> {
    /// Whether mapped bytes that the device keeps where they lie are brought into memory before the load is done: a first
    /// answer then waits for no disk.
    pub make_resident: bool,
    /// Whether weights that the device does not keep leave the operating system's cache as well: on a machine whose memory
    /// can't hold them beside what the device made of them, the system would otherwise look for what to drop.
    pub drop_cached: bool,
    /// Called with the bytes of the checkpoint that are loaded; at the end these are its
    /// [`Checkpoint::total_bytes`].
    pub on_progress: &'a mut dyn FnMut(u64),
}

/// Puts every weight on the device, and of each only what the device keeps of it stays in memory.
///
/// Mapped files are read from front to back, the next weight ahead of its turn, so that a disk is never idle and of
/// cached pages those that were used are dropped first. Where weights are read, larger ones come first: what is held for
/// a moment beside the weights on the device is then at no time more than what is still to come onto it.
pub(crate) fn load_weights(
    checkpoint: &Checkpoint,
    backend: &mut dyn Backend,
    loading: &mut WeightLoading<'_>,
) -> Result<Weights, ModelError> {
    let config = checkpoint.config();
    let mut order = checkpoint.weights_in_file_order();
    order.retain(|reference| !reference.is_scales());
    let mut loader = Loader { config, backend, loading, done: 0, kept: Vec::new() };
    let mut ids = HashMap::with_capacity(order.len());
    let mut load = |stored: Stored| -> Result<Used, ModelError> {
        let reference = stored.reference;
        let (id, used) = loader.load(stored)?;
        ids.insert(reference, id);
        Ok(used)
    };
    match checkpoint.loaded_as() {
        LoadedAs::Mapped => load_mapped(checkpoint, &order, &mut load)?,
        LoadedAs::Read => {
            order.sort_by_key(|&reference| Reverse(weights::spec(reference, config).bytes()));
            for (i, &reference) in order.iter().enumerate() {
                if let Some(&next) = order.get(i + 1) {
                    read_ahead(checkpoint, next);
                }
                load(Stored::find(checkpoint, reference)?)?.let_go(checkpoint);
            }
        }
    }
    // Pages at the ends of a weight went when a neighbour in the file was let go.
    loader.kept.iter().for_each(|bytes| bytes.make_resident(&mut |_| {}));
    Weights::bind(config, |reference| Ok(ids[&reference]))
}

/// Finds weights, and lets go of them, on a thread of its own while `load` has another: what the system does about their
/// pages, and looking at scales, then hold nothing up. Two weights at most are there at once.
fn load_mapped(
    checkpoint: &Checkpoint,
    order: &[WeightRef],
    load: &mut dyn FnMut(Stored) -> Result<Used, ModelError>,
) -> Result<(), ModelError> {
    thread::scope(|scope| {
        let (found, weights) = mpsc::sync_channel(0);
        let (used, finished) = mpsc::channel::<Used>();
        let find = move || {
            for &reference in order {
                read_ahead(checkpoint, reference);
                // It is taken when the one before is finished; by nobody where the load has failed.
                if found.send(Stored::find(checkpoint, reference)).is_err() {
                    return;
                }
                finished.try_iter().for_each(|weight| weight.let_go(checkpoint));
            }
            drop(found);
            finished.iter().for_each(|weight| weight.let_go(checkpoint));
        };
        let no_thread = |error: io::Error| ModelError::Thread { reason: error.to_string() };
        thread::Builder::new().name("weights".to_owned()).spawn_scoped(scope, find).map_err(no_thread)?;
        for stored in weights {
            // The receiver is there as long as there are weights.
            let _ = used.send(load(stored?)?);
        }
        Ok(())
    })
}

/// Bytes of weights of a model of this configuration that `backend` uses in their mapping.
pub fn kept_weight_bytes(config: &ModelConfig, backend: &dyn Backend) -> usize {
    let specs = WeightRef::all(config)
        .filter(|reference| !reference.is_scales())
        .map(|reference| weights::spec(reference, config));
    specs.filter(|spec| stays_in_place(spec, backend)).map(|spec| spec.bytes()).sum()
}

fn stays_in_place(spec: &WeightSpec, backend: &dyn Backend) -> bool {
    backend.keeps_host_bytes(spec) && spec.bytes() >= MIN_BYTES_IN_PLACE
}

struct Loader<'a, 'b> {
    config: &'a ModelConfig,
    backend: &'a mut dyn Backend,
    loading: &'a mut WeightLoading<'b>,
    /// Bytes loaded.
    done: u64,
    /// What must be in memory at the end.
    kept: Vec<SharedBytes>,
}

/// A weight as the checkpoint has it.
struct Stored {
    reference: WeightRef,
    values: Vec<SharedBytes>,
    scales: Vec<SharedBytes>,
}

impl Stored {
    fn find(checkpoint: &Checkpoint, reference: WeightRef) -> Result<Self, ModelError> {
        let bytes = |reference| -> Result<Vec<SharedBytes>, ModelError> {
            Ok(checkpoint.weight(reference)?.into_iter().map(|view| view.bytes).collect())
        };
        let values = bytes(reference)?;
        let scales = weights::scales_of(reference).map_or(Ok(Vec::new()), bytes)?;
        Ok(Self { reference, values, scales })
    }
}

/// A weight that is on the device.
struct Used {
    reference: WeightRef,
    /// What of its bytes need not stay.
    to_release: Vec<SharedBytes>,
    /// Whether they leave the operating system's cache as well.
    drop_cached: bool,
}

impl Used {
    fn let_go(self, checkpoint: &Checkpoint) {
        self.to_release.iter().for_each(SharedBytes::release);
        if self.drop_cached {
            checkpoint.drop_cached(self.reference);
            weights::scales_of(self.reference).into_iter().for_each(|scales| checkpoint.drop_cached(scales));
        }
    }
}

impl Loader<'_, '_> {
    fn load(&mut self, Stored { reference, values, scales }: Stored) -> Result<(WeightId, Used), ModelError> {
        let spec = weights::spec(reference, self.config);
        let keeps = self.backend.keeps_host_bytes(&spec);
        let all: Vec<SharedBytes> = values.iter().chain(&scales).cloned().collect();
        let in_place = stays_in_place(&spec, self.backend);
        if !in_place {
            all.iter().for_each(SharedBytes::will_be_read_once);
        }
        let data = match keeps && !in_place {
            true => WeightData { values: copies(&values), scales: copies(&scales) },
            false => WeightData { values, scales },
        };
        let id = self.backend.load_weight(spec, data)?;
        for bytes in &all {
            if in_place && self.loading.make_resident {
                bytes.make_resident(&mut |part| self.report(part));
                self.kept.push(bytes.clone());
            } else {
                self.report(bytes.len());
            }
        }
        let drop_cached = self.loading.drop_cached && !in_place;
        let to_release = if in_place { Vec::new() } else { all };
        Ok((id, Used { reference, to_release, drop_cached }))
    }

    fn report(&mut self, bytes: usize) {
        self.done += bytes as u64;
        (self.loading.on_progress)(self.done);
    }
}

fn copies(pieces: &[SharedBytes]) -> Vec<SharedBytes> {
    pieces.iter().map(|bytes| SharedBytes::from_vec(bytes.to_vec())).collect()
}

fn read_ahead(checkpoint: &Checkpoint, reference: WeightRef) {
    checkpoint.read_ahead(reference);
    if let Some(scales) = weights::scales_of(reference) {
        checkpoint.read_ahead(scales);
    }
}
