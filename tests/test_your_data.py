"""The pages for people with photos of their own, as whole processes: `80_your_data`, `22_query`, `21_datasets`."""
import json
import numpy as np, onnxruntime, pandas as pd, pytest
from PIL import Image
from conftest import ROOT, papermill, said, snapshot, write_table
from mtss.checks import check_dataset
from mtss.datasets import load_dataset, only_trained, with_splits
from mtss.reports import type_report
from mtss.schema import read_table
from mtss.tagger import Tagger

@pytest.fixture(scope='module')
def tour(tmp_path_factory):
    "The tutorial as it stands: its folder, and what it said."
    folder = tmp_path_factory.mktemp('tour')
    papermill('80_your_data.ipynb', folder/'page.ipynb', folder/'store', preset='smoke', out=folder/'out', precision=.01)
    return folder, said(folder/'page.ipynb')

def test_the_tour_leaves_a_catalogue_and_two_taggers(tour):
    folder, text = tour
    before, after, filled = read_table(folder/'out/shop_smoke/annotations.csv'), read_table(folder/'out/tagged.csv'), pd.read_csv(folder/'out/filled_cells.csv')
    assert list(after.columns) == list(before.columns) and after['image'].equals(before['image'])
    changed = sum(((before[name] != after[name]) & (before[name] == '')).sum() for name in ('category', 'pattern', 'colour', 'sleeve'))
    assert len(filled) == changed == 0 and 'sleeve: no cell is filled, since one and the same answer for every photo may be as good' in text      # a rehearsal learns nothing
    for name in before.columns: assert after.loc[before[name] != '', name].equals(before.loc[before[name] != '', name])
    assert filled['confidence'].is_monotonic_decreasing and filled['confidence'].between(0, 1).all()
    assert set(json.loads((folder/'out/thresholds.json').read_text())) == {'category', 'pattern', 'colour', 'sleeve'}
    tagger = Tagger.load(folder/'out/tagger.safetensors')
    assert tagger.schema.names == ('category', 'pattern', 'colour', 'sleeve') and any(offset.any() for offset in tagger.offsets.values())      # it leans, where val advises it
    assert {output.name for output in onnxruntime.InferenceSession(folder/'out/tagger.onnx').get_outputs()} == set(tagger.schema.names)
    for part in ('labels in test are too few', 'teacher of sleeve, γ = 1: training', 'commonest mistakes', 'ONNX Runtime and PyTorch agree'): assert part in text

def test_what_is_sure_fills_empty_cells_and_one_answer_for_all_does_not(tmp_path):
    "The cells of the page that choose thresholds and fill, on answers that are made up: of category nine in ten are right, of pattern all are the same, which is right half of the time."
    path = write_table(tmp_path/'shop', 600)
    whole = read_table(path)
    table = whole.assign(category=whole['category'].where(np.arange(600) % 7 > 0, ''))
    table.to_csv(path, index=False)
    shop = load_dataset(path, image_size=16, store=tmp_path/'store')
    true = whole['category'].map({'dress': 0, 'shirt': 1, 'skirt': 2}).to_numpy()
    said = dict(category=np.where(np.arange(600) % 11, true, (true + 1) % 3), pattern=np.zeros(600, int))
    confidences = {kind.name: np.full((600, len(kind)), .1 / (len(kind) - 1)) for kind in shop.schema}
    for name in said: confidences[name][np.arange(600), said[name]] = .9
    page = dict(shop=shop, table=table, types=['category', 'pattern'], leaning=True, ways={True: confidences, False: confidences}, confidences=confidences, labels={name: shop.targets(name).labels for name in said}, test=shop.rows('test'), val=shop.rows('val'),
                report=type_report(shop, {name: values[shop.rows('test')] for name, values in confidences.items()}), precision=.4, out=tmp_path)
    sources = [''.join(cell['source']) for cell in json.loads((ROOT/'nbs/80_your_data.ipynb').read_text())['cells'] if cell['cell_type'] == 'code']
    for begins in ('from IPython', 'def answers', 'thresholds, rows', 'for values in confidences'):
        (source,) = [source for source in sources if source.startswith(begins)]
        exec(source, page)
    full = read_table(tmp_path/'tagged.csv')
    assert page['thresholds']['pattern'] > 1 and page['thresholds']['category'] <= .9
    assert full['pattern'].equals(table['pattern'])
    empty = (table['category'] == '').to_numpy()
    assert empty.sum() > 80 and (full['category'][empty] == np.array(['dress', 'shirt', 'skirt'])[said['category'][empty]]).all() and full['category'][~empty].equals(table['category'][~empty])

def test_a_column_later_trains_no_old_teacher_again(tour):
    _, text = tour
    assert all(text.count(f'teacher of {name}, γ = 1: training') == 1 for name in ('category', 'pattern', 'colour', 'sleeve'))
    assert text.count('student of 3 teachers, β = 1: training') == text.count('student of 4 teachers, β = 1: training') == 1

def test_photos_of_ones_own_without_splits_and_with_a_photo_that_does_not_open(tmp_path):
    drawn = load_dataset('synthetic', image_size=40, train=260, val=1, test=1, unlabeled=30, store=tmp_path/'store')
    (tmp_path/'shop').mkdir()
    table = drawn.table.assign(image=[f'photo {n}.jpg' for n in range(len(drawn))])
    table = only_trained(table[table['split'].isin(['train', 'unlabeled'])], 'table')[['image', 'category', 'colour']]
    for n, name in zip(table.index, table['image']): Image.fromarray(drawn.pixels[n]).save(tmp_path/'shop'/name)
    broken = table['image'][table['colour'] == ''].iloc[3]
    (tmp_path/'shop'/broken).write_bytes(b'no photo')
    table.to_csv(tmp_path/'shop/list.csv', index=False)
    before = snapshot(tmp_path/'shop')
    papermill('80_your_data.ipynb', tmp_path/'page.ipynb', tmp_path/'store', preset='smoke', data=tmp_path/'shop/list.csv', types='category', later='colour', leaning=False, out=tmp_path/'out', precision=.01)
    text, full = said(tmp_path/'page.ipynb'), read_table(tmp_path/'out/tagged.csv')
    assert broken in text and 'student of 2 teachers' in text
    split = with_splits(read_table(tmp_path/'shop/list.csv'), ['category', 'colour'])['split']     # photos that the later column alone labels are dealt in with it
    assert not split.equals(with_splits(read_table(tmp_path/'shop/list.csv'), ['category'])['split'])
    assert read_table(tmp_path/'out/tomorrow.csv')['image'].tolist() == table['image'][((split == 'test') & (full['image'] != broken)).to_numpy()].tolist()
    assert not any(offset.any() for offset in Tagger.load(tmp_path/'out/tagger.safetensors').offsets.values())      # every class counts alike
    assert list(full.columns) == ['image', 'category', 'colour'] and full.loc[full['image'] == broken, 'colour'].item() == ''
    assert snapshot(tmp_path/'shop') == before
    assert check_dataset(tmp_path/'shop/list.csv').set_index('check').loc['images that open', 'verdict'] == 'look'

@pytest.mark.parametrize('given, message', [(dict(precision=1.2), 'precision=1.2 is out of range'), (dict(precison=.9), 'unknown parameter precison (is it precision?)'), (dict(preset='tiney'), "unknown preset 'tiney'"), (dict(leaning='no'), "leaning='no': give True or False"), (dict(precision='80%'), "precision='80%' is not a number: give a share"), (dict(types='category', data=None), 'give data as well'), (dict(later='sleve'), 'no such column'), (dict(weights='nothing.safetensors'), 'nothing.safetensors: missing, or not a .safetensors file'), (dict(types='category,color'), 'the table has no column color; it has category, pattern')])
def test_a_slip_is_named_before_anything_is_done(tmp_path, given, message):
    if ('later' in given or 'types' in given) and 'data' not in given: given = given | dict(data=write_table(tmp_path/'shop'))
    done = papermill('80_your_data.ipynb', tmp_path/'page.ipynb', tmp_path/'store', check=False, **dict(preset='smoke', out=tmp_path/'out') | given)
    assert done.returncode and message in done.stderr and not snapshot(tmp_path/'store') and not snapshot(tmp_path/'out')

@pytest.mark.parametrize('name', ['tagged.csv', 'tomorrow.csv'])
def test_a_table_of_ones_own_is_not_written_over(name, tmp_path):
    "The page writes files of these names itself; a table that was looked through may have one of them."
    table = write_table(tmp_path/'shop').rename(tmp_path/'shop'/name)
    before = snapshot(tmp_path)
    done = papermill('80_your_data.ipynb', tmp_path/'page.ipynb', tmp_path/'store', check=False, preset='smoke', data=table, out=tmp_path/'shop')
    assert done.returncode and 'would take the place of your table: give another folder' in done.stderr
    assert {path: content for path, content in snapshot(tmp_path).items() if path in before} == before

def test_numbers_of_articles_are_not_taken_for_an_attribute(tmp_path):
    "Two photos of each: too few different values to be refused as a name."
    path = write_table(tmp_path/'shop')
    table = pd.read_csv(path, dtype=str, keep_default_na=False).drop(columns='split')
    table.assign(sku=[f'A{n // 2}' for n in range(len(table))]).to_csv(path, index=False)
    found = check_dataset(path)
    wrong = found[(found['check'] == 'sku: classes') & (found['verdict'] == 'wrong')]
    assert len(wrong) == 1 and 'a name or a number' in wrong['what to do'].item()
    assert not ((found['check'] == 'category: classes') & (found['verdict'] == 'wrong')).any()

def test_a_photo_is_asked_about(tour, tmp_path):
    folder, _ = tour
    photo = folder/'out/shop_smoke/00003.jpg'
    papermill('22_query.ipynb', tmp_path/'page.ipynb', tmp_path/'store', image=photo, tagger=folder/'out/tagger.safetensors')
    papermill('22_query.ipynb', tmp_path/'test.ipynb', folder/'store', preset='smoke', gamma='tune', queries=2)
    assert 'a true class is at place' in said(tmp_path/'test.ipynb') and not snapshot(tmp_path/'store')
    (tmp_path/'text.jpg').write_text('no picture')
    done = papermill('22_query.ipynb', tmp_path/'text.ipynb', tmp_path/'store', check=False, image=tmp_path/'text.jpg', tagger=folder/'out/tagger.safetensors')
    assert done.returncode and 'text.jpg: this is not an image' in done.stderr
    done = papermill('22_query.ipynb', tmp_path/'none.ipynb', tmp_path/'store', check=False, tagger=folder/'out/tagger.safetensors')
    assert done.returncode and 'give it an image' in done.stderr

def test_a_set_of_ones_own_joins_the_overview(tour, tmp_path):
    folder, _ = tour
    papermill('21_datasets.ipynb', tmp_path/'page.ipynb', folder/'store', preset='smoke', also=folder/'out/shop_smoke/annotations.csv')
    text = said(tmp_path/'page.ipynb')
    for name in 'studio', 'packshot', 'street', 'shop': assert name in text

def test_the_same_photo_in_two_splits_is_found(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(f'{n}.png', split, kind) for n, split, kind in zip(range(24), ['train'] * 16 + ['val'] * 4 + ['test'] * 4, ['red', 'blue'] * 12)]
    for name, *_ in rows: Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((64, 64), Image.Resampling.BICUBIC).save(tmp_path/name)
    Image.open(tmp_path/'2.png').resize((50, 50)).save(tmp_path/'22.png')
    for n in 0, 1, 3, 16: Image.new('RGB', (64, 64), 'white').save(tmp_path/f'{n}.png')      # "no photo yet"
    pd.DataFrame(rows, columns=['image', 'split', 'colour']).to_csv(tmp_path/'table.csv', index=False)
    found = check_dataset(tmp_path/'table.csv').set_index('check')
    assert found.loc['test images that train has as well', ['found', 'verdict']].tolist() == ['1', 'wrong']
    assert '2.png = 22.png' in found.loc['test images that train has as well', 'what to do']
    assert found.loc['val images that train has as well', 'found'] == '1'
    few = check_dataset(tmp_path/'table.csv', images=10).set_index('check').loc['test images that train has as well']
    assert few['verdict'] == 'look' and few['found'] == '0 among 10 of 24 images' and 'images=None' in few['what to do']
    with pytest.raises(ValueError, match='images=0'): check_dataset(tmp_path/'table.csv', images=0)
