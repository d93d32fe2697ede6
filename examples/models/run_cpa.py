"""CPA as a model of `pertscale models run`: python run_cpa.py TASK OUT.

An environment of its own, tried with Python 3.11 on a CPU. CPA's own requirements can't be met on
any supported Python, so it is installed without them, and its tuner (Ray) is left out:

    python3.11 -m venv envs/cpa
    envs/cpa/bin/pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
    envs/cpa/bin/pip install -r requirements-cpa.txt
    envs/cpa/bin/pip install --no-deps --ignore-requires-python cpa-tools==0.8.8

CPA adds up a vector per perturbed gene, so it can predict combinations of genes it has seen, and no
new gene: tasks = ["double"]. It is fitted on log1p expression with the Gaussian loss. Control
cells with the vectors of a held-out condition are decoded, and averaged. PERTSCALE_EPOCHS is the
largest number of epochs [200].

Licence: CPA (cpa-tools 0.8.8) is BSD-3-Clause; Lotfollahi et al., Molecular Systems Biology 2023.
"""

from __future__ import annotations

import json
import os
import sys
import time
import types
from importlib.metadata import version
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import torch

tuner = types.ModuleType("cpa._tuner")  # asks for Ray, and is not used
tuner.run_autotune = None
sys.modules["cpa._tuner"] = tuner

import cpa  # noqa: E402

CTRL = "ctrl"
CONTROL_CELLS = 300


def main(task: Path, out: Path) -> None:
    """Train on the task's cells and write the predictions."""
    started = time.perf_counter()
    request = json.loads((task / "request.json").read_text())
    split = json.loads((task / "split.json").read_text())
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", request["threads"])))
    spelling = request["spelling"]
    data = anndata.read_h5ad(task / "data.h5ad")
    data = data[data.obs["condition"].str.count(r"\+") < 2].copy()
    seen = {g for s in data.obs["condition"].unique() for g in s.split("+")}
    asked = [
        name
        for name in request["conditions"]
        if seen.issuperset(spelling[name].split("+")) and spelling[name].count("+") == 1
    ]
    if not asked:
        sys.exit("CPA predicts combinations of genes that it has seen, and there are none to do")

    whole = with_queries(data, [spelling[name] for name in asked], request["seed"])
    whole.obs["part"] = parts(whole.obs["condition"], split["val"], spelling, request["seed"])
    whole.obs.loc[whole.obs["query"], "part"] = "query"
    cpa.CPA.setup_anndata(
        whole, perturbation_key="condition", control_group=CTRL, is_count_data=False,
        categorical_covariate_keys=["cell_type"], max_comb_len=2,
    )  # fmt: skip
    model = cpa.CPA(
        whole, split_key="part", train_split="train", valid_split="val", test_split="query",
        recon_loss="gauss", n_latent=64, doser_type="linear", seed=request["seed"],
    )  # fmt: skip
    epochs = int(os.environ.get("PERTSCALE_EPOCHS", "200"))
    model.train(
        max_epochs=epochs, use_gpu=torch.cuda.is_available(), batch_size=256,
        check_val_every_n_epoch=5, early_stopping_patience=10, save_path=str(out / "cpa"),
        plan_kwargs={"n_epochs_adv_warmup": epochs // 4, "n_epochs_pretrain_ae": epochs // 10},
    )  # fmt: skip
    queries = whole[whole.obs["query"]].copy()
    model.predict(queries, batch_size=256)
    values = pd.DataFrame(queries.obsm["CPA_pred"], columns=data.var_names)
    means = values.groupby(queries.obs["condition"].astype(str).to_numpy()).mean()
    frame = means.loc[[spelling[name] for name in asked], request["genes"]]
    frame.index = pd.Index(asked, name="condition")
    frame.to_parquet(out / "predictions.parquet")
    meta = {
        "versions": {p: version(p) for p in ("cpa-tools", "scvi-tools", "torch", "numpy")},
        "seconds": time.perf_counter() - started,
        "epochs": len(model.epoch_history["epoch"].unique()),
        "lowest_value": float(frame.to_numpy().min()),  # the network is not bound to what can be
        "not_predicted": [name for name in request["conditions"] if name not in asked],
    }
    (out / "meta.json").write_text(json.dumps(meta, indent=1))


def with_queries(data: anndata.AnnData, conditions: list[str], seed: int) -> anndata.AnnData:
    """Add control cells under the names of the held-out conditions: their input, and no truth."""
    control = data[data.obs["condition"] == CTRL]
    chosen = np.random.RandomState(seed).permutation(control.n_obs)[:CONTROL_CELLS]
    data.obs["query"] = False
    copies = []
    for i, condition in enumerate(dict.fromkeys(conditions)):
        copy = control[chosen].copy()
        copy.obs = copy.obs.assign(condition=condition, query=True)
        copy.obs_names = [f"query-{i}-{name}" for name in copy.obs_names]
        copies.append(copy)
    whole = anndata.concat([data, *copies])
    for column in ("condition", "cell_type"):
        whole.obs[column] = whole.obs[column].astype(str).astype("category")
    return whole


def parts(conditions: pd.Series, val: list[str], spelling: dict[str, str], seed: int) -> np.ndarray:
    """Return the part of each cell; without validation conditions a tenth of the cells."""
    mine = conditions.astype(str).isin([spelling[name] for name in val]).to_numpy()
    if not mine.any():
        mine = np.random.RandomState(seed).random_sample(len(conditions)) < 0.1
    return np.where(mine, "val", "train").astype(object)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
