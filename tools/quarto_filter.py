"""For a plain `quarto render`: reads a notebook from stdin, writes the page that nbdev makes of it to stdout.

Quarto also calls it on pages that `nbdev_docs` has prepared already; those pass unchanged.
"""
import json, os, sys
from contextlib import redirect_stdout
from execnb.nbio import dict2nb, nb2str
from nbdev.processors import FilterDefaults

notebook = dict2nb(json.load(sys.stdin))
prepared = notebook.cells[0].cell_type == 'raw'   # nbdev puts the front matter there
if not prepared:
    os.environ['IN_TEST'] = '1'                   # so that a cell that exports the notebook does nothing
    notebook.path_ = 'page.ipynb'                 # nbdev asks for a name; Quarto does not tell it
    with redirect_stdout(sys.stderr): FilterDefaults()(notebook)
    front_matter = notebook.cells[0]
    front_matter.source = front_matter.source.replace('output-file: page.html\n', '')
print(nb2str(notebook))
