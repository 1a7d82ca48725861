"""The rules of the house: what holds for every notebook, module and text of the project."""
import ast, configparser, importlib, json, re, subprocess, sys
from fnmatch import fnmatch
from pathlib import Path
import nbformat, pandas as pd, pytest, yaml
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = {path.stem: nbformat.read(path, as_version=4) for path in sorted((ROOT/'nbs').glob('*.ipynb'))}
LIBRARY = {stem: stem.split('_', 1)[1] for stem in NOTEBOOKS if re.match(r'0\d[a-z]?_', stem)}     # notebook: module
EXPERIMENTS = [stem for stem in NOTEBOOKS if re.match(r'[1-9]\d', stem)]
MODULES = {path.stem: ast.parse(path.read_text(encoding='utf-8')) for path in (ROOT/'mtss').glob('*.py') if path.stem[0] != '_'}
SETTINGS = configparser.ConfigParser(delimiters=['='])
SETTINGS.read(ROOT/'settings.ini', encoding='utf-8')
SETTINGS = SETTINGS['DEFAULT']

def text(name): return (ROOT/name).read_text(encoding='utf-8')
def code(notebook): return [cell for cell in notebook.cells if cell.cell_type == 'code']
def directives(notebook, name): return [line for cell in code(notebook) for line in re.findall(rf'^#\|\s*{name}\b.*', cell.source, re.M)]
def calls(tree): return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]

def imports(tree):
    "Every module that `tree` imports, with dots. nbdev writes `from mtss.draws import …` as `from .draws import …`."
    for node in ast.walk(tree):
        if isinstance(node, ast.Import): yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            module = '.'.join(['mtss'] * node.level + [node.module] * bool(node.module))
            yield module
            if module == 'mtss': yield from (f'mtss.{alias.name}' for alias in node.names)

# --- notebooks and modules

def test_every_notebook_is_of_a_kind():
    assert set(NOTEBOOKS) == {'index', *LIBRARY, *EXPERIMENTS}

@pytest.mark.parametrize('stem', LIBRARY)
def test_a_notebook_exports_the_module_it_names(stem):
    assert directives(NOTEBOOKS[stem], 'default_exp') == [f'#| default_exp {LIBRARY[stem]}']

def test_a_module_comes_from_a_notebook():
    assert set(MODULES) == set(LIBRARY.values())

@pytest.mark.parametrize('stem', LIBRARY)
def test_a_module_imports_only_those_above_it(stem):
    above = [f'mtss.{LIBRARY[other]}' for other in LIBRARY if other < stem]
    used = {name for name in imports(MODULES[LIBRARY[stem]]) if name.split('.')[0] == 'mtss'} - {'mtss'}
    assert used <= set(above), f'{stem} imports {sorted(used - set(above))}'

@pytest.mark.parametrize('module', MODULES)
def test_no_pickle(module):
    for name in imports(MODULES[module]):
        assert name.split('.')[0] not in {'pickle', 'cPickle', 'dill', 'cloudpickle', 'joblib', 'shelve'}
    for name, call in calls(MODULES[module]):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert name != 'torch.save', 'torch.save writes a pickle'
        if name == 'torch.load': assert given.get('weights_only') == 'True', 'torch.load reads a pickle'
        assert given.get('allow_pickle', 'False') == 'False' and not name.endswith('_pickle')

# --- experiments

@pytest.mark.parametrize('stem', EXPERIMENTS)
def test_an_experiment_has_its_parameters_in_one_cell(stem):
    cells = [cell for cell in code(NOTEBOOKS[stem]) if 'parameters' in cell.metadata.get('tags', [])]
    assert len(cells) == 1
    lines = cells[0].source.splitlines()
    for node in ast.parse(cells[0].source).body:
        assert isinstance(node, ast.Assign)
        ast.literal_eval(node.value)       # a plain value, which papermill can replace
        assert '#' in lines[node.lineno - 1], f'{ast.unparse(node)} does not say what it means'

@pytest.mark.parametrize('stem', EXPERIMENTS)
def test_what_is_true_or_false_is_described_so(stem):
    "`check_parameters` goes by it, and refuses `-p longer no`."
    given, described = {}, {}
    for cell in code(NOTEBOOKS[stem]):
        if 'parameters' in cell.metadata.get('tags', []): given = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(cell.source).body}
        if 'check_parameters(' in cell.source:
            (call,) = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'check_parameters']
            described = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.args[1].keywords}
    assert given.keys() == described.keys()
    for name, value in given.items(): assert isinstance(value, bool) == described[name].startswith('True or False'), name

@pytest.mark.parametrize('stem', EXPERIMENTS)
def test_an_experiment_is_left_to_papermill_and_exports_nothing(stem):
    front_matter = NBProcessor(ROOT/f'nbs/{stem}.ipynb', procs=FrontmatterProc, process=True).nb.frontmatter_
    assert front_matter.get('title') and front_matter.get('skip_exec') is True
    assert not directives(NOTEBOOKS[stem], '(default_exp|export)')

# --- what is committed

@pytest.mark.parametrize('stem', NOTEBOOKS)
def test_a_notebook_holds_no_error(stem):
    outputs = [output for cell in code(NOTEBOOKS[stem]) for output in cell.outputs]
    assert not [output.evalue for output in outputs if output.output_type == 'error']
    assert 'Traceback (most recent call last)' not in json.dumps(outputs)

def test_no_path_of_a_machine_and_no_registry():
    places = re.compile(r'/(work|root|home|Users)/\w|[A-Z]:\\\\?Users|/site-packages/|/tmp/\w'
                        r'|pypi\.org|pythonhosted|npmjs\.|anaconda\.org|download\.pytorch\.org')
    files = subprocess.run(['git', 'ls-files', '--cached', '--others', '--exclude-standard'], cwd=ROOT, check=True, capture_output=True,
                           text=True).stdout.splitlines()
    found = [f'{name}: {match[0]}' for name in files
             if (ROOT/name).is_file() and (ROOT/name) != Path(__file__) and Path(name).suffix not in {'.png', '.jpg', '.parquet', '.safetensors'}
             for match in places.finditer(text(name))]
    assert files and not found

# --- the front door and the site

def test_the_example_uses_names_that_exist():
    example = ast.parse(code(NOTEBOOKS['index'])[0].source)
    wanted = [(node.module, alias.name) for node in ast.walk(example) if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert wanted and all(hasattr(importlib.import_module(module), name) for module, name in wanted)

def test_the_front_door_leads_to_every_notebook():
    links = set(re.findall(r'\]\((\w+)\.ipynb\)', ''.join(cell.source for cell in NOTEBOOKS['index'].cells)))
    assert links == set(NOTEBOOKS) - {'index'}

def test_the_readme_has_two_commands():
    commands = re.findall(r'```bash\n(.*?)```', text('README.md'), re.S)
    assert len(commands) == 1
    assert commands[0].splitlines() == ['pip install -e . && papermill nbs/10_table1.ipynb out.ipynb -p gamma 1',
                                        "pip install -e '.[dev]' && python tests/run_all.py"]

def test_the_readme_has_the_times_that_were_measured():
    sys.path.insert(0, str(ROOT/'tools'))
    from time_main_job import as_lines
    assert '\n'.join(as_lines(pd.read_csv(ROOT/'results/main_job.csv'))) in text('README.md')

def test_times_that_are_taken_again_replace_their_own_and_leave_the_others(tmp_path):
    sys.path.insert(0, str(ROOT/'tools'))
    from time_main_job import keep
    times = pd.DataFrame([dict(job=job, seconds=seconds, processor_seconds=2 * seconds, peak_gb=1., cpu='slow') for job, seconds in (('one', 10.), ('two', 20.), ('three', 30.))])
    keep(times[:2], 'before', tmp_path/'times.csv')
    keep(times[::2].assign(seconds=[11., 33.]), 'after', tmp_path/'times.csv')
    keep(times[:1].assign(seconds=5., cpu='fast'), 'elsewhere', tmp_path/'times.csv')
    assert pd.read_csv(tmp_path/'times.csv').set_index(['job', 'cpu'])['seconds'].to_dict() == {('one', 'slow'): 11., ('two', 'slow'): 20., ('three', 'slow'): 33., ('one', 'fast'): 5.}
    assert json.loads((tmp_path/'times.json').read_text()) == {'one, slow': 'after', 'two, slow': 'before', 'three, slow': 'after', 'one, fast': 'elsewhere'}

def test_every_notebook_has_its_place_in_the_sidebar():
    sections = yaml.safe_load(text('_quarto.yml'))['website']['sidebar']['contents']
    globs = [section['contents']['auto'] for section in sections if isinstance(section['contents'], dict)]
    for stem in NOTEBOOKS.keys() - {'index'}:
        for path in f'/{stem}.ipynb', f'/nbs/{stem}.ipynb':     # as nbdev sees it, and as Quarto does from the root
            assert sum(fnmatch(path, glob) for pair in globs for glob in pair) == 1, f'{path} has no place, or two'

# --- facts written more than once

def test_versions_agree():
    version = SETTINGS['version']
    assert importlib.import_module('mtss').__version__ == version
    assert yaml.safe_load(text('CITATION.cff'))['version'] == version
    assert f'## [{version}]' in text('CHANGELOG.md')

def test_the_workflow_tests_every_python():
    matrix = yaml.safe_load(text('.github/workflows/test.yml'))['jobs']['test']['strategy']['matrix']['python']
    assert matrix[0] == SETTINGS['min_python']
    assert f'Python {matrix[0]} to {matrix[-1]}' in text('README.md')

def test_every_dependency_has_its_reason():
    for requirement in ' '.join(SETTINGS[kind] for kind in ('requirements', 'dev_requirements', 'workflow_requirements', 'peers_requirements')).split():
        name = re.split(r'[<>=]', requirement)[0]
        assert f'`{name}`' in text('CONTRIBUTING.md'), f'CONTRIBUTING.md does not say what {name} is for'

def test_every_import_is_declared():
    "The peers are an extra: `mtss.peers` alone may import them, and only where it trains one. So everything else, and reading its rows, does without. Tests and tools may have what `dev` brings."
    def declared(*kinds): return {re.split(r'[<>=]', requirement)[0].lower() for kind in kinds for requirement in SETTINGS[kind].split()}
    named = {'pil': 'pillow', 'sklearn': 'scikit-learn', 'imagecorruptions': 'imagecorruptions-imaug', 'pytorch_metric_learning': 'pytorch-metric-learning', 'yaml': 'pyyaml'}
    wanted = []       # who imports, what is imported, what may be
    for module, tree in MODULES.items():
        at_once = ast.Module([node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))], [])
        wanted += [(module, at_once, declared('requirements')), (module, tree, declared('requirements', *(['peers_requirements'] if module == 'peers' else [])))]
    beside = [path for folder in ('tests', 'tools') for path in sorted((ROOT/folder).glob('*.py'))]
    theirs = declared('requirements', 'dev_requirements', 'workflow_requirements', 'peers_requirements') | {path.stem for path in beside}      # each other, too
    wanted += [(path.name, ast.parse(path.read_text(encoding='utf-8')), theirs) for path in beside]
    for who, tree, known in wanted:
        for name in {name.split('.')[0] for name in imports(tree)} - set(sys.stdlib_module_names) - {'mtss'}:
            assert named.get(name.lower(), name) in known, f'{who} imports {name}, settings.ini does not require it'
