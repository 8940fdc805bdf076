"""A training that stopped goes on as if it hadn't: weights, the optimiser's state and random numbers in one file, without pickle."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..checks import InputError
from ..files import check_readable, check_writable, is_there, write_whole

FORMAT, VERSION = "neuronpath.training", "1"


class Checkpoint:
    """The file of one training: of this student, optimiser, loader and plan, and of no other."""

    def __init__(
        self,
        path: str | os.PathLike,
        student: nn.Module,
        optimizer: torch.optim.Optimizer,
        loader: Iterable[Any],
        plan: str,
    ) -> None:
        self.path = Path(path)
        self.student, self.optimizer, self.loader = student, optimizer, loader
        shapes = {name: list(value.shape) for name, value in student.state_dict().items()}
        self.plan = json.dumps({"plan": json.loads(plan), "student": shapes})
        self.random: dict[str, Tensor] = {}
        self.order: Tensor | None = None  # the loader's own generator as an epoch began
        check_writable(self.path, overwrite=True)

    def save(self, step: int) -> None:
        """Write the training as it stands after ``step`` batches, in one step."""
        found = {f"student.{name}": value for name, value in self._weights().items()}
        for group in self.optimizer.param_groups:
            for i, parameter in enumerate(group["params"]):
                for name, value in self.optimizer.state[parameter].items():
                    found[f"optimizer.{i}.{name}"] = value
        found["random.cpu"] = torch.get_rng_state()
        like = next(self.student.parameters())
        if like.is_cuda:
            found["random.cuda"] = torch.cuda.get_rng_state(like.device)
        if self.order is not None:
            found["order"] = self.order
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in found.items()}
        about = {"format": FORMAT, "version": VERSION, "step": str(step), "plan": self.plan}
        write_whole(self.path, lambda part: save_file(tensors, part, about), overwrite=True)

    def load(self) -> int:
        """Put everything back as the file has it, and give the batches that are done: 0 where there is no file yet."""
        if not is_there(self.path):
            return 0
        expected = "a file that distil wrote, or another name"
        check_readable(self.path, expected)
        try:
            with safe_open(self.path, "pt") as file:
                about = file.metadata() or {}
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        except (OSError, SafetensorError):
            raise InputError(f"{self.path} is damaged or no checkpoint; expected {expected}") from None
        if about.get("format") != FORMAT or about.get("version") != VERSION:
            raise InputError(f"{self.path} holds no checkpoint that this neuronpath reads; expected {expected}")
        if about.get("plan") != self.plan:
            raise InputError(
                f"{self.path} is of another training (other settings, or a student of another shape); expected another name"
            )
        weights = {name.removeprefix("student."): v for name, v in found.items() if name.startswith("student.")}
        own = self._weights()
        if own.keys() != weights.keys():
            raise InputError(f"{self.path} lacks {min(own.keys() ^ weights.keys())}; expected {expected}")
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(weights[name])
        for group in self.optimizer.param_groups:
            for i, parameter in enumerate(group["params"]):
                prefix = f"optimizer.{i}."
                state = {n.removeprefix(prefix): v for n, v in found.items() if n.startswith(prefix)}
                self.optimizer.state[parameter] = {n: v if n == "step" else v.to(parameter) for n, v in state.items()}
        self.random = {name: value for name, value in found.items() if name.startswith("random.")}
        self.order = found.get("order")
        return int(about["step"])

    def begin_epoch(self, resumed: bool) -> None:
        """Note how the loader's own generator stands as an epoch begins; put it back where that epoch is gone on with."""
        generator = getattr(self.loader, "generator", None)
        if generator is None:
            return
        if resumed and self.order is not None:
            generator.set_state(self.order)
        self.order = generator.get_state()

    def restore_random(self) -> None:
        """The random numbers of the process as they stood when the file was written."""
        torch.set_rng_state(self.random["random.cpu"])
        if "random.cuda" in self.random:
            torch.cuda.set_rng_state(self.random["random.cuda"], next(self.student.parameters()).device)

    def _weights(self) -> dict[str, Tensor]:
        """Every parameter and buffer once, however many modules hold it."""
        return dict(self.student.named_parameters()) | dict(self.student.named_buffers())
