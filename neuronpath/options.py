"""The words that options take, an alias an option: editors complete them, and ``checked`` refuses all others.

Of those that can be registered (methods, importances, engines) any text will do here; the registries know which.
"""

from typing import Literal, TypeAlias

Units: TypeAlias = Literal["neurons", "heads", "both"]
Token: TypeAlias = Literal["auto", "pooled", "cls", "patch", "all"]
Baseline: TypeAlias = Literal["zero", "mean", "resample", "paired"]
OutputName: TypeAlias = Literal["prob", "logit", "sigmoid"]
Rule: TypeAlias = Literal[
    "clenshawcurtis", "gausslegendre", "gaussradau", "riemann_left", "riemann_middle", "riemann_right", "riemann_trapezoid"
]  # fmt: skip
Precision: TypeAlias = Literal["fp32", "bf16"]
Influenced: TypeAlias = Literal["frozen", "live"]

MethodName: TypeAlias = (
    Literal["activation", "causal", "conductance", "influence_pattern", "joint", "knowledge", "live", "random"] | str
)
Objective: TypeAlias = Literal["joint", "complete"]
Effort: TypeAlias = Literal["standard", "thorough"]
PresetName: TypeAlias = Literal["complete", "joint-thorough", "paper", "progressive"]
CriterionName: TypeAlias = Literal["keep", "break", "both"]
Ranking: TypeAlias = Literal["growth", "integrated", "gates"]

Likeness: TypeAlias = Literal["frequency", "path"]
PixelMethod: TypeAlias = Literal["integrated_gradients", "input_x_gradient"]

ImportanceName: TypeAlias = (
    Literal["activation", "causal", "complete", "frequency", "magnitude", "path", "random", "taylor"] | str
)
ImportanceSource: TypeAlias = Literal["paths", "images", "weights"]
Scope: TypeAlias = Literal["block", "global"]
Layout: TypeAlias = Literal["cycle", "sequence", "phases"]
Equal: TypeAlias = Literal["parameters", "multiply-adds"]
Init: TypeAlias = Literal["fitted", "average", "stepwise", "lower"]
Sureness: TypeAlias = Literal["confidence", "entropy"]
ExitRule: TypeAlias = Literal[Sureness, "patience"]
Schedule: TypeAlias = Literal["queues", "mixed", "compact", "sync"]
Aim: TypeAlias = Literal["throughput", "latency"]
Mixing: TypeAlias = Literal["auto", "own", "gather", "group"]

TaskName: TypeAlias = Literal["find_path", "find_circuit", "activations", "evaluate", "faithfulness"]
EngineName: TypeAlias = Literal["local", "ray"] | str
Suite: TypeAlias = Literal["faithfulness", "cost"]
Explained: TypeAlias = Literal["predicted", "label"]
Column: TypeAlias = Literal["target", "predicted", "label"]
Split: TypeAlias = Literal["test", "train"]
Protocol: TypeAlias = Literal["prune", "paper"]
