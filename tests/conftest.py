"""What several tests share: stores of their own, photos made up on the spot, the project's notebooks as whole processes."""
import os, subprocess, sys
from pathlib import Path
import numpy as np, pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
CATALOGUE = ROOT/'../shared/data/catalogue/annotations.csv'     # real photos, which are not part of the project

def pytest_addoption(parser):
    parser.addoption('--slow', action='store_true', help='run the tests marked slow too')

def pytest_configure(config):
    config.addinivalue_line('markers', 'slow: takes minutes; runs only with --slow')

def pytest_collection_modifyitems(config, items):
    if config.getoption('--slow'): return
    for item in items:
        if 'slow' in item.keywords: item.add_marker(pytest.mark.skip(reason='slow'))

@pytest.fixture(scope='session', autouse=True)
def own_store(tmp_path_factory):
    "The default store is a temporary one: no test may touch, or profit from, what somebody has trained."
    before = os.environ.get('MTSS_STORE')
    os.environ['MTSS_STORE'] = str(tmp_path_factory.mktemp('default store'))
    yield
    if before is None: del os.environ['MTSS_STORE']
    else: os.environ['MTSS_STORE'] = before

@pytest.fixture
def store(tmp_path, monkeypatch):
    "An empty store, the default one of this test."
    monkeypatch.setenv('MTSS_STORE', str(tmp_path/'store'))
    return tmp_path/'store'

@pytest.fixture
def catalogue():
    "The annotation table of the real photos."
    if not CATALOGUE.exists(): pytest.skip('the photo catalogue is not beside the project')
    return CATALOGUE

def little(**overrides):
    "A preset that trains in a second or two: five teachers of four steps and a student of six."
    from mtss.runs import resolve
    schedule = dict(batch=8, evaluate_every=2, checkpoint_every=2)
    settings = dict(sizes=dict(train=60, val=40, test=40, unlabeled=20), image_size=16, view_size=16, dim=8, kept_embeddings=160,
                    teacher=dict(steps=4, **schedule), student=dict(steps=6, **schedule))
    return resolve('smoke', **settings | overrides)

def trained(store, preset=None):
    "Data, teachers and student of `little` from a store."
    from mtss.runs import load_for, train_student, train_teachers
    preset = preset or little()
    data = load_for('synthetic', preset, store=store)
    teachers = train_teachers(data, 1, preset, store=store)
    return data, teachers, train_student(data, teachers, 1, preset, store=store)

def weights(store):
    "Every tensor of every model in a store."
    from mtss.training import load_tensors
    return {f'{model.parent.name}/{name}': tensor for model in sorted(store.glob('runs/*/model.safetensors')) for name, tensor in load_tensors(model)[0].items()}

def snapshot(*folders):
    "Every file below some folders, with its bytes; locks, which are empty, left out."
    return {path: path.read_bytes() for folder in folders for path in sorted(Path(folder).rglob('*')) if path.is_file() and path.name != '.lock'}

def photo(n, size=16):
    "A picture that no other n has: coarse blocks, as uint8 size × size × 3."
    return np.random.default_rng(n).integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(size // 4, 0).repeat(size // 4, 1)

def write_table(folder, n=120):
    "A folder of n photos and its annotation table, a tenth of them in `val`, a fifth in `test`, the patterns of a third unknown; the table's path."
    (folder/'images').mkdir(parents=True)
    lines = ['image,split,category,pattern']
    for i in range(n):
        Image.fromarray(photo(i)).save(folder/f'images/{i}.png')
        split = 'val' if i % 10 == 3 else 'test' if i % 5 == 4 else 'train'
        lines.append(f"images/{i}.png,{split},{('dress', 'shirt', 'skirt')[i % 3]},{('', 'dots', 'solid')[i // 3 % 3]}")
    (folder/'annotations.csv').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return folder/'annotations.csv'

def papermill(notebook, output, store, *, check=True, **parameters):
    "Run a notebook as its README does; what the process said, and how it ended."
    given = [part for name, value in parameters.items() for part in ('-p', name, str(value))]
    done = subprocess.run([sys.executable, '-m', 'papermill', ROOT/'nbs'/notebook, output, *given], cwd=ROOT, env=os.environ | {'MTSS_STORE': str(store)},
                          capture_output=True, text=True)
    if check: assert done.returncode == 0, done.stderr[-3000:]
    return done

def said(path):
    "All text that a run notebook's cells gave: printed lines, and the text and HTML of what they show."
    import nbformat
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get('outputs', [])]
    assert not [output for output in outputs if output.output_type == 'error']
    # a printed line may come in two outputs, cut anywhere: those are put together as they are
    return ''.join(output['text'] if output.output_type == 'stream' else ''.join(f"\n{output.data.get(kind, '')}\n" for kind in ('text/plain', 'text/html')) for output in outputs)
