//! The op contract: programs, buffers, shapes, KV layout, and the scalar reference device
