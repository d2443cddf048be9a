"""Forms of the matching and of the embedding objective, as forms_table.py names them."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from forms_table import Form
from torch import Tensor, nn

from mgd_ssl.losses import SEED, CompRess
from mgd_ssl.losses.blocks import mlp, unit
from mgd_ssl.matching import REDUCERS, assign_channels
from mgd_ssl.matching.reducers import gather_groups, gather_margin
from mgd_ssl.stages import Stage, gather_costs

Pairs = Iterable[tuple[list[Tensor], list[Tensor]]]


class Dense(nn.Module):
    """The matching's part of a form: maps in, one loss a stage out."""

    def __init__(self, form: Form, stages: list[Stage], margins: list[Tensor]) -> None:
        super().__init__()
        self.form, self.stages = form, [stages[i] for i in form.stages]
        self.expands = form.groups in ("expanded", "expanded matched")
        self.adapters = nn.ModuleList(
            nn.Conv2d(s.student_channels, s.teacher_channels, 1)
            if self.expands
            else nn.BatchNorm2d(s.student_channels)
            for s in self.stages
        )
        self.margins = [margins[i] for i in form.stages]
        self.power = [torch.ones(s.teacher_channels) for s in self.stages]
        self.assignments: list[Tensor] = []
        self.scales: list[Tensor] = []

    def measure(self, maps: list[list[Tensor]]) -> None:
        """Statistics of the teacher's channels: root mean square, and mean of the negatives."""
        for i, stage in enumerate(self.stages):
            x = torch.cat([m[stage.index] for m in maps])
            if self.form.margins == "measured":
                negative = x.clamp_max(0).sum((0, 2, 3)) / (x < 0).sum((0, 2, 3)).clamp_min(1)
                self.margins[i] = negative
            if self.form.target == "scaled":
                self.power[i] = x.square().mean((0, 2, 3)).sqrt().clamp_min(1e-6)

    def solve(self, pairs: Pairs) -> None:
        """Assign the channels."""
        form = self.form
        if form.groups in ("identity", "expanded"):
            self.assignments = [self._in_order(s) for s in self.stages]
            return
        if form.groups == "expanded matched":
            if self.assignments:
                return
            pairs = self._expand(pairs)
        mode = "sparse" if form.reducer == "sm" else "balanced"
        channels = [(self._rows(s), s.teacher_channels) for s in self.stages]
        costs = gather_costs(channels, (list(zip(*maps, strict=True)) for maps in pairs))
        self.assignments = [assign_channels(cost, mode) for cost in costs]

    @torch.no_grad()
    def _expand(self, pairs: Pairs) -> Pairs:
        for student, teacher in pairs:
            yield [a(x) for a, x in zip(self.adapters, student, strict=True)], teacher

    def _rows(self, stage: Stage) -> int:
        return stage.teacher_channels if self.expands else stage.student_channels

    def _in_order(self, stage: Stage) -> Tensor:
        rows = self._rows(stage)
        groups = 1 if self.form.reducer == "sm" else stage.teacher_channels // rows
        return torch.arange(rows * groups).view(rows, groups)

    def forward(self, student: list[Tensor], teacher: list[Tensor]) -> Tensor:
        """Sum over the stages, each begun at the form's weight."""
        losses = torch.stack(
            [self._loss(i, student[s.index], teacher[s.index]) for i, s in enumerate(self.stages)]
        )
        if not self.scales:
            self.scales = [self.form.weight / losses.detach()]
        return (losses * self.scales[0]).sum()

    def _loss(self, i: int, student: Tensor, teacher: Tensor) -> Tensor:
        form, assignment = self.form, self.assignments[i]
        adapted: Tensor = self.adapters[i](student)
        power = self.power[i]
        grouped = gather_groups(teacher / power[:, None, None], assignment)
        margin = gather_margin(self.margins[i] / power, assignment)
        reduced: tuple[Tensor, Tensor] = REDUCERS[form.reducer](grouped, margin)
        target, bound = reduced
        if form.loss == "cosine":
            x, y = (F.normalize(z.flatten(2), dim=2) for z in (adapted, target))
            return 2 - 2 * (x * y).sum(2).mean()
        if form.loss == "pixel":
            return 2 - 2 * F.cosine_similarity(adapted, target, dim=1).mean()
        if form.loss == "l2":
            return (adapted - target).square().mean()
        tau = torch.maximum(target, bound[:, None, None])
        return ((adapted - tau).square() * ((adapted > tau) | (tau > 0))).mean()


class Embedding(nn.Module):
    """The embedding's part of a form: pooled features of both networks in, a loss out."""

    def __init__(self, form: Form, d: int, teacher: int) -> None:
        super().__init__()
        self.form = form
        heads = {
            "regression": (d, 2 * d, d, 2 * d, teacher),
            "linear": (d, teacher),
            "linear + relation": (d, teacher),
            "two layers": (d, 2048, teacher),
        }
        after = {"regression": (1, 3), "two layers": (1,)}.get(form.embedding, ())
        widths = heads.get(form.embedding)
        self.head: nn.Module = mlp(*widths, norm_after=after) if widths else nn.Identity()
        if form.embedding in ("seed", "compress"):
            kind = SEED if form.embedding == "seed" else CompRess
            self.head = kind(d, teacher, 4096)
        self.mean, self.std = torch.zeros(teacher), torch.ones(teacher)

    def measure(self, teacher: Tensor) -> None:
        """Statistics of the teacher's features (N,D_t), for targets that are centred or scaled."""
        if self.form.embedding_target in ("centred", "standard"):
            self.mean = teacher.mean(0)
        if self.form.embedding_target == "standard":
            self.std = teacher.std(0).clamp_min(1e-6)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A mean over the images."""
        kind = self.form.embedding
        teacher = (teacher - self.mean) / self.std
        if kind in ("seed", "compress"):
            loss: Tensor = self.head(student, teacher)
            return loss
        if kind == "linear + relation":
            return self._relation(student, teacher) + self._cosine(student, teacher)
        if kind == "none":
            return student.new_zeros(())
        if kind in ("relation", "gram", "centred gram", "centred relation"):
            return self._relation(student, teacher)
        return self._cosine(student, teacher)

    def _cosine(self, student: Tensor, teacher: Tensor) -> Tensor:
        output: Tensor = self.head(student)
        if self.form.embedding_loss == "mse":
            return (output - teacher).square().mean()
        return 2 - 2 * (unit(output) * unit(teacher)).sum(1).mean()

    def _relation(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.form.embedding.startswith("centred"):
            student, teacher = student - student.mean(0), teacher - teacher.mean(0)
        s, t = unit(student), unit(teacher)
        s, t = s @ s.T, t @ t.T
        off = ~torch.eye(len(s), dtype=torch.bool)
        s, t = s[off].view(len(s), -1), t[off].view(len(t), -1)
        if self.form.embedding.endswith("gram"):
            return (s - t).square().mean() * 10
        temperature = self.form.temperature
        target = (t / temperature).softmax(1)
        return F.kl_div((s / temperature).log_softmax(1), target, reduction="batchmean")
