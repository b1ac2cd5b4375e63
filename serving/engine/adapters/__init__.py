"""LoRA adapters: what of a model a name stands for, and how it comes into engines while they serve."""
