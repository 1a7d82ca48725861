"""Makes README.md from nbs/index.ipynb. Links are written as seen from the notebook and turned to the root here."""
import os, re
from pathlib import Path
import nbformat
from nbconvert import MarkdownExporter
from nbdev.process import NBProcessor
from nbdev.processors import hide_, hide_line, populate_language, rm_export

ROOT = Path(__file__).parent.parent
WARNING = '<!-- Made from nbs/index.ipynb by tools/make_readme.py: edit the notebook. -->\n\n'

def from_root(link):
    "A markdown link as seen from the root: `](../x)` becomes `](x)`, `](x)` becomes `](nbs/x)`."
    return f"]({os.path.normpath('nbs/' + link[1])})"

def readme():
    notebook = NBProcessor(ROOT/'nbs/index.ipynb', procs=[populate_language, hide_line, rm_export, hide_], process=True).nb
    for cell in notebook.cells: cell.source = re.sub(r'^#\|.*\n', '', cell.source, flags=re.M)
    notebook.metadata.language_info = {'name': 'python'}   # the language of the fenced blocks
    text, _ = MarkdownExporter().from_notebook_node(nbformat.from_dict(notebook))
    return WARNING + re.sub(r'\]\((?!\w+:|#)([^)\s]+)\)', from_root, text).strip() + '\n'

if __name__ == '__main__': (ROOT/'README.md').write_text(readme(), encoding='utf-8')
