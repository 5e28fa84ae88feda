"""Each notebook is executed in a kernel of its own, on a handful of images, with its parameters changed."""

import json
import sys
from pathlib import Path

import nbformat
import pytest
import timm
import torch
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from safetensors.torch import save_file

from tests.data.simple_trees import imagefolder_tree

NOTEBOOKS = Path(__file__).parents[1] / "examples" / "notebooks"
QUICK = {
    "own_data": """
STEPS = 2
SETTINGS = {"image_size": 32, "backbone": "test_efficientnet", "weights": "pretrained.safetensors", "epochs": 1,
            "max_steps": 2, "batch_size": 4, "workers": 0, "device": "cpu"}
""",
    "own_loop": """
SIDE, STEPS, BATCH_SIZE = 32, 2, 4
BACKBONE, WEIGHTS = "test_efficientnet", "pretrained.safetensors"
""",
}
TOLD = {"own_data": ("fine-tuned", "diagnosis.html", "held out", "Prediction"), "own_loop": ("none", "oracle", "csg")}


def test_notebooks_are_valid_and_hold_no_output():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(QUICK)
    for path in NOTEBOOKS.glob("*.ipynb"):
        book = nbformat.read(path, as_version=4)
        nbformat.validate(book)
        assert [cell for cell in book.cells if cell.get("outputs")] == []
        assert sum("parameters" in cell.metadata.get("tags", ()) for cell in book.cells) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_notebook_runs_from_its_first_cell_to_its_last(name, tmp_path, monkeypatch):
    kernels = tmp_path / "kernels" / "python3"
    kernels.mkdir(parents=True)
    words = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernels / "kernel.json").write_text(json.dumps({"argv": words, "display_name": "here", "language": "python"}))
    monkeypatch.setattr(KernelSpecManager, "kernel_dirs", [str(tmp_path / "kernels")])
    monkeypatch.setenv("SYNREAL_CACHE", str(tmp_path / "cache"))
    imagefolder_tree(tmp_path / "renders")
    imagefolder_tree(tmp_path / "photos", per_class=2, seed=1)
    torch.manual_seed(0)
    save_file(timm.create_model("test_efficientnet", num_classes=10).state_dict(), tmp_path / "pretrained.safetensors")
    book = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    place = next(n for n, cell in enumerate(book.cells) if "parameters" in cell.metadata.get("tags", ()))
    book.cells.insert(place + 1, nbformat.v4.new_code_cell(QUICK[name]))
    NotebookClient(book, timeout=400, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    told = "".join(output.get("text", "") for cell in book.cells for output in cell.get("outputs", ()))
    for words in TOLD[name]:
        assert words in told
