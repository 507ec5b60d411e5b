"""The lecture's notebook runs from top to bottom, and lies in the repository without what it printed."""

import os
import sys
import warnings
from pathlib import Path

import pytest

import deconvnet

nbformat = pytest.importorskip("nbformat")

NOTEBOOK = Path(__file__).parents[2] / "docs" / "lecture.ipynb"

#: Cells that draw: fewer pictures mean that one was lost.
_PICTURES = 13

#: Lines of a cell that can still be read from the last row.
_LINES = 15


def _read():
    return nbformat.read(NOTEBOOK, as_version=4)


def _draws(cell):
    """Does the cell show a picture? The one that defines `show` does not."""
    lines = cell.source.splitlines()
    return any(line.startswith(("show(", "plt.show(")) for line in lines) or ".figure(" in lines[-1]


def _pictures(cell):
    return [output for output in cell.outputs if "image/png" in output.get("data", {})]


def test_it_is_committed_without_outputs():
    notebook = _read()
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert all(not cell.metadata for cell in notebook.cells)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info == {"name": "python"}


def test_every_cell_can_be_read_from_the_last_row():
    long = [cell.source for cell in _read().cells if cell.cell_type == "code" and len(cell.source.splitlines()) > _LINES]
    assert not long


def test_every_section_has_a_question_and_an_exercise_with_a_hint():
    text = "\n".join(cell.source for cell in _read().cells if cell.cell_type == "markdown")
    sections = text.split("\n## ")[1:-1]  # the last one is what to take home
    assert len(sections) == 10
    for number, section in enumerate(sections, start=1):
        assert section.startswith(f"{number}. ")
        assert "**Ask the audience.**" in section
        assert f"**Exercise {number}.**" in section
        assert section.count("<details><summary>Hint</summary>") == section.count("</details>") == 1


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Jupyter's own packages say of each other
        pytest.importorskip("ipykernel")
        nbclient = pytest.importorskip("nbclient")
        from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
        from jupyter_client.manager import AsyncKernelManager

        class ThisPython(KernelSpecManager):
            """Knows the Python that runs the tests, whatever kernels are installed."""

            def get_kernel_spec(self, kernel_name):
                argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
                return KernelSpec(argv=argv, display_name=kernel_name, language="python")

        source = Path(deconvnet.__file__).parents[1]
        environment = {**os.environ, "PYTHONPATH": str(source), "IPYTHONDIR": str(tmp_path / "ipython")}
        notebook = _read()
        where = f"import deconvnet; assert deconvnet.__file__ == {deconvnet.__file__!r}"
        notebook.cells.insert(0, nbformat.v4.new_code_cell(where))
        folder = tmp_path / "empty"
        folder.mkdir()
        manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=ThisPython())
        client = nbclient.NotebookClient(notebook, km=manager, timeout=600, resources={"metadata": {"path": str(folder)}})
        client.execute(env=environment, cleanup_kc=True)  # or the kernel would go on

    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    said = [output.text for cell in code for output in cell.outputs if output.get("name") == "stderr"]
    assert not said, "".join(said)
    assert [cell.source for cell in code if _draws(cell) and not _pictures(cell)] == []
    assert sum(len(_pictures(cell)) for cell in code) >= _PICTURES
    assert not list(folder.iterdir())  # what it writes, it writes to a folder of its own
