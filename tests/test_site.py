"""The pages as nbdev prepares them for Quarto; Quarto itself is not needed."""
import ast, json, re, shutil, subprocess, sys
from pathlib import Path
import pytest
from nbdev.process import NBProcessor

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT/'nbs').glob('*.ipynb'))

@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_imports_stand_in_cells_of_their_own(path):
    "nbdev runs every cell that holds an import when it makes a page, and no other cell: what stands beside the import would run too."
    imports = ast.Import, ast.ImportFrom
    for cell in NBProcessor(path).nb.cells:
        if cell.cell_type != 'code': continue
        if cell.directives_.keys() & {'export', 'exports', 'exporti'} or cell.directives_.get('eval:') == ['false']: continue
        statements = cell.parsed_() or []
        if any(isinstance(node, imports) for statement in statements for node in ast.walk(statement)):
            assert all(isinstance(statement, imports) for statement in statements), cell.source

def test_every_page_is_made(tmp_path):
    for name in 'nbs', 'mtss': shutil.copytree(ROOT/name, tmp_path/name, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
    shutil.copy(ROOT/'settings.ini', tmp_path)
    subprocess.run([sys.executable, '-c', 'from nbdev.serve import proc_nbs; proc_nbs(force=True, n_workers=2)'], cwd=tmp_path, check=True)
    assert {page.name for page in (tmp_path/'_proc').glob('*.ipynb')} == {path.name for path in NOTEBOOKS}
    assert (tmp_path/'_proc/_quarto.yml').exists()
    assert '### uniform' in (tmp_path/'_proc/00b_draws.ipynb').read_text(encoding='utf-8')      # documented from its signature

def filtered(page):
    return subprocess.run([sys.executable, ROOT/'tools/quarto_filter.py'], cwd=ROOT/'nbs', input=page, check=True, capture_output=True, text=True).stdout

def test_a_plain_quarto_render_gets_the_same_page():
    "The filter makes the page of a notebook, and leaves a page as it is."
    page = filtered((ROOT/'nbs/00b_draws.ipynb').read_text(encoding='utf-8'))
    first = ''.join(json.loads(page)['cells'][0]['source'])
    assert first.startswith('---\n') and 'title: Draws' in first and 'output-file' not in first
    assert filtered(page) == page

def test_links_to_lines_of_code_lead_there():
    "Those of the fidelity page: a line that has moved since the page was made is noticed."
    page = (ROOT/'nbs/95_fidelity.ipynb').read_text(encoding='utf-8')
    links = re.findall(r'<code>(\w+)\.(\w+)</code></a>, <a href=\\"\.\./mtss/\1\.py#L(\d+)\\">', page)
    assert len(links) > 30
    for module, name, line in links:
        there = (ROOT/f'mtss/{module}.py').read_text(encoding='utf-8').splitlines()[int(line) - 1]
        assert re.match(rf'@|(def |class )?{name}\b', there), f'{module}.{name} is not in line {line}: run the page again'
