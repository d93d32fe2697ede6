"""STATE as a model of `pertscale models run`: python run_state.py TASK OUT [KEY=VALUE ...].

An environment of its own, tried with Python 3.11 on a CPU:

    python3.11 -m venv envs/state
    envs/state/bin/pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
    envs/state/bin/pip install -r requirements-state.txt

STATE was made to carry known perturbations over to other cell lines. To predict new ones it needs
vectors of them: here each gene's principal components over the training conditions, summed over
the genes of a condition; a gene that was not read out can't be predicted. Control cells are then
perturbed by `state tx infer`, and averaged. PERTSCALE_STEPS is the number of steps [4000]; what
follows OUT goes to `state tx train` as it is, such as model.kwargs.hidden_dim=128 without a GPU.

Licence: the code of STATE (arc-state 0.11.1) is CC BY-NC-SA 4.0, for non-commercial use; it is run
as a separate program only. Adduri et al., bioRxiv 2025.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import torch

CTRL = "ctrl"
CONTROL_CELLS = 300
DIM = 10


def main(task: Path, out: Path, overrides: list[str]) -> None:
    """Train on the task's cells and write the predictions."""
    started = time.perf_counter()
    request = json.loads((task / "request.json").read_text())
    split = json.loads((task / "split.json").read_text())
    spelling = request["spelling"]
    data = anndata.read_h5ad(task / "data.h5ad")
    vectors = condition_vectors(data, spelling)
    asked = [n for n in request["conditions"] if spelling[n] in vectors]
    folder = out / "state"
    folder.mkdir()
    torch.save(vectors, folder / "vectors.pt")
    write_split(folder / "split.toml", task, data, [spelling[n] for n in split["val"]])
    write_queries(folder / "queries.h5ad", data, [spelling[n] for n in asked], request["seed"])

    steps = int(os.environ.get("PERTSCALE_STEPS", "4000"))
    state = str(Path(sys.executable).with_name("state"))
    settings = {
        "data.kwargs.toml_config_path": folder / "split.toml",
        "data.kwargs.perturbation_features_file": folder / "vectors.pt",
        "data.kwargs.embed_key": "null",
        "data.kwargs.output_space": "all",
        "data.kwargs.pert_col": "condition",
        "data.kwargs.control_pert": CTRL,
        "data.kwargs.cell_type_key": "cell_type",
        "data.kwargs.batch_col": "batch" if "batch" in data.obs else "cell_type",
        "data.kwargs.num_workers": 0,
        "data.kwargs.pin_memory": "false",
        "model": "state_sm",
        "training.max_steps": steps,
        "training.val_freq": max(1, steps // 10),
        "training.ckpt_every_n_steps": steps,
        "training.batch_size": 8,
        "training.train_seed": request["seed"],
        "training.wandb_track": "false",
        "use_wandb": "false",
        "output_dir": folder,
        "name": "run",
    }
    arguments = [*(f"{key}={value}" for key, value in settings.items()), *overrides]
    subprocess.run([state, "tx", "train", *arguments], check=True)
    subprocess.run(
        [state, "tx", "infer", "--model-dir", folder / "run", "--adata", folder / "queries.h5ad",
         "--pert-col", "condition", "--control-pert", CTRL, "--seed", str(request["seed"]),
         "--output", folder / "predicted.h5ad"],
        check=True,
        # its checkpoint holds more than weights; it is the one that was written a line above
        env={**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
    )  # fmt: skip
    predicted = anndata.read_h5ad(folder / "predicted.h5ad")
    values = pd.DataFrame(np.asarray(predicted.X), columns=data.var_names)
    means = values.groupby(predicted.obs["condition"].astype(str).to_numpy()).mean()
    frame = means.loc[[spelling[n] for n in asked], request["genes"]]
    frame.index = pd.Index(asked, name="condition")
    frame.to_parquet(out / "predictions.parquet")
    meta = {
        "versions": {p: version(p) for p in ("arc-state", "torch", "numpy")},
        "seconds": time.perf_counter() - started,
        "steps": steps,
        "not_predicted": [n for n in request["conditions"] if n not in asked],
    }
    (out / "meta.json").write_text(json.dumps(meta, indent=1))


def condition_vectors(data: anndata.AnnData, spelling: dict[str, str]) -> dict[str, torch.Tensor]:
    """Return a vector per condition whose genes are all read out; zero for the control."""
    codes = data.obs["condition"].cat.codes.to_numpy()
    means = np.stack(
        [np.asarray(data.X[codes == c].mean(axis=0)).ravel() for c in np.unique(codes)]
    )
    u, s, _ = np.linalg.svd((means - means.mean(axis=0)).T, full_matrices=False)
    scores = u[:, :DIM] * s[:DIM]
    scores /= np.linalg.norm(scores, axis=1).mean()
    of = dict(zip(data.var_names, scores, strict=True))
    vectors = {CTRL: torch.zeros(scores.shape[1])}
    for condition in spelling.values():
        genes = [g for g in condition.split("+") if g != CTRL]
        if all(g in of for g in genes):
            vectors[condition] = torch.tensor(sum(of[g] for g in genes), dtype=torch.float32)
    return vectors


def write_split(path: Path, task: Path, data: anndata.AnnData, val: list[str]) -> None:
    """Write STATE's split: all cells of the task are for training, but for those of validation."""
    conditions = [c for c in data.obs["condition"].cat.categories if c != CTRL]
    val = val or conditions[:: max(1, len(conditions) // 3)][:2]
    context = data.obs["cell_type"].iloc[0]
    path.write_text(
        f"[datasets]\ntask = {json.dumps(str(task / 'data.h5ad'))}\n"
        '[training]\ntask = "train"\n[zeroshot]\n'
        f"[fewshot.{json.dumps(f'task.{context}')}]\nval = {json.dumps(val)}\ntest = []\n"
    )


def write_queries(path: Path, data: anndata.AnnData, conditions: list[str], seed: int) -> None:
    """Write control cells, and some of them again under the name of each held-out condition."""
    control = data[data.obs["condition"] == CTRL]
    chosen = np.random.RandomState(seed).permutation(control.n_obs)[:CONTROL_CELLS]
    copies = [control.copy()]
    for i, condition in enumerate(dict.fromkeys(conditions)):
        copy = control[chosen].copy()
        copy.obs["condition"] = condition
        copy.obs_names = [f"query-{i}-{name}" for name in copy.obs_names]
        copies.append(copy)
    whole = anndata.concat(copies)
    whole.obs["condition"] = whole.obs["condition"].astype(str).astype("category")
    whole.write_h5ad(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
