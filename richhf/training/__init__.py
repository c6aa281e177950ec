"""Training of anything with the model interface: optimizers, partitioning, the step, checkpoints, the loop.

- `schedules`: learning rates by factors; `optimizers`: AdamW, Adafactor and Muon.
- `partitioning`: the device mesh and where arrays live on it.
- `train_state`, `train_step`: what a step changes, and the step; `programs`: what is compiled.
- `checkpoints`, `iterator_checkpoint`: saving and going on; `interruption`: signals.
- `run_log`: log, TensorBoard, progress; `train`: the loop.
"""
