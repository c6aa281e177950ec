"""Training of anything with the model interface: optimizers, partitioning, the step, checkpoints, the loop.

- `schedules`: learning rates by factors; `optimizers`: AdamW, Adafactor and Muon.
- `partitioning`: the device mesh and where arrays live on it.
- `train_state`, `train_step`: what a step changes, and the step; `programs`: what is compiled.
- `checkpoints`, `iterator_checkpoint`, `text_checkpoint`, `retention`: saving, going on, and what is kept;
  `saved_params`, `saved_shapes`: what is there; `interruption`: signals.
- `metrics_window`, `run_log`, `example_log`: what is read and written on the way; `train`: the loop.
"""
