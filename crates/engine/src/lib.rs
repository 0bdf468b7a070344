//! Sequences, scheduling, sampling and the step loop: commands in, events out
