"""The main job as a whole process, at the size of a test: `papermill nbs/10_table1.ipynb out.ipynb`."""
import json, shutil
import pandas as pd, pytest
from PIL import Image
from conftest import papermill, said, snapshot
from mtss.datasets import load_dataset
from mtss.runs import COLUMNS, IDENTITY, load_for, read_rows, run_or_read

NOTEBOOK = '10_table1.ipynb'
MODELS = {'prior', 'teacher', 'student', 'teacher_long', 'cross_entropy', 'teacher_prior', 'student_prior', 'teacher_long_prior', 'cross_entropy_prior'}
MEASURES = {('R', 1), ('R', 3), ('R', 5), ('F1', 1), ('F1_ceiling', 1), ('balanced_accuracy', 1), ('mAP', 0)}
EVERYTHING = dict(preset='smoke', yardstick=True, longer=True)

def job(folder, store, **parameters):
    "Run the notebook with its rows in a folder; the rows, and all that its cells said."
    papermill(NOTEBOOK, folder/'out.ipynb', store, out=folder/'rows', **dict(preset='smoke') | parameters)
    return read_rows(folder/'rows/table1.csv'), said(folder/'out.ipynb')

@pytest.fixture(scope='module')
def cold(tmp_path_factory):
    "The job from nothing: its folder, its store, its rows, and what it said."
    folder = tmp_path_factory.mktemp('cold')
    return folder, folder/'store', *job(folder, folder/'store', **EVERYTHING)

def complete(rows, schema, truths, models):
    "Every model is judged on every type, by every measure."
    for truth in truths:
        for model in models:
            for kind in [*schema.names, 'all']:
                own = rows[(rows.model == model) & (rows.attribute_type == kind) & (rows.truth == truth)]
                wanted = MEASURES - {('mAP', 0)} if kind == 'all' else MEASURES
                assert wanted <= set(zip(own['metric'], own['k'])), (model, kind, truth)

def shows(text, *parts):
    for part in parts: assert part in text, part

def test_the_main_job_ends_with_every_row_and_a_table(cold):
    folder, _, rows, text = cold
    complete(rows, load_for('synthetic', 'smoke').schema, ['clean', 'observed'], MODELS)
    assert set(rows['model']) == MODELS and list(rows.columns) == COLUMNS and not rows.duplicated(IDENTITY).any()
    assert rows['value'].between(0, 1).all()
    shows(text, 'DeepFashion, published', 'synthetic, ours', 'Teacher γ = 1', 'Student γ = 1, β = 1', 'Cross-entropy network', 'trained as long as the student', 'Prior',
          'category', 'balanced accuracy', 'C1a', 'C2a')
    ((origin,),) = (replicate.values() for replicate in json.loads((folder/'rows/table1.json').read_text()).values())
    assert {'judged', 'trained', 'settings', 'minutes'} <= origin.keys() and len(origin['trained']) == 1
    assert {'commit', 'machine', 'python', 'versions', 'training_code'} <= origin['judged'].keys() == origin['trained'][0].keys()

def test_two_empty_stores_give_the_same_rows_byte_for_byte(cold, tmp_path):
    folder, *_ = cold
    job(tmp_path, tmp_path/'store', **EVERYTHING)
    assert (tmp_path/'rows/table1.csv').read_bytes() == (folder/'rows/table1.csv').read_bytes()

def test_what_is_in_the_store_is_not_trained_again(cold, tmp_path):
    folder, store, *_ = cold
    before = snapshot(store)
    _, text = job(tmp_path, store, **EVERYTHING)
    assert ': training ' not in text and 'going on with' not in text and text.count('found in the store') == 16
    assert (tmp_path/'rows/table1.csv').read_bytes() == (folder/'rows/table1.csv').read_bytes()
    assert snapshot(store) == before

def test_rows_that_are_there_are_read(cold, store, tmp_path, capsys):
    "Not even a store is needed to show them."
    folder, _, rows, _ = cold
    shutil.copytree(folder/'rows', tmp_path/'rows')
    before = snapshot(tmp_path/'rows')
    found = run_or_read(tmp_path/'rows/table1.csv', 'synthetic', 'smoke', yardstick=True, longer=True)
    assert capsys.readouterr().out == 'replicate 0: read from table1.csv\n'
    pd.testing.assert_frame_equal(found, rows)
    assert snapshot(tmp_path/'rows') == before and not (store/'runs').exists()

def test_a_model_that_rows_lack_is_trained_alone(cold, tmp_path):
    "Not even the student that stands beside it, though the store is empty."
    folder, _, rows, _ = cold
    shutil.copytree(folder/'rows', tmp_path/'rows')
    found, text = job(tmp_path, tmp_path/'store', unfocused=True)
    assert text.count('γ = 0: training') == 5 and 'γ = 1: training' not in text and 'student of 5' not in text
    new = found[(found.model == 'teacher') & (found.gamma == '0')]
    assert len(found) == len(rows) + len(new) and len(new)
    pd.testing.assert_frame_equal(found.drop(new.index).reset_index(drop=True), rows)

def test_a_dry_run_trains_nothing(tmp_path):
    _, text = job(tmp_path, tmp_path/'store', gamma='tune', dry_run=True)
    shows(text, 'teacher of category', 'γ = 3', 'student of', 'minutes', 'MB', 'none yet')
    assert not snapshot(tmp_path/'store') and not (tmp_path/'rows').exists()

@pytest.fixture(scope='module')
def shop(tmp_path_factory):
    "Photos beside a table with half-filled cells: the table's path, the table, and its types."
    folder = tmp_path_factory.mktemp('photos')
    drawn = load_dataset('synthetic', image_size=32, train=150, val=40, test=40, unlabeled=20, store=folder/'store')
    (folder/'shop').mkdir()
    table = drawn.table.assign(image=[f'{n}.jpg' for n in range(len(drawn))])
    for n, name in enumerate(table['image']): Image.fromarray(drawn.pixels[n]).save(folder/'shop'/name, quality=95)
    for name in drawn.schema.names:                                  # a class that training does not have cannot be judged
        trained = set('|'.join(table.loc[table.split == 'train', name]).split('|'))
        table[name] = ['|'.join(value for value in cell.split('|') if value in trained) for cell in table[name]]
    table.to_csv(folder/'shop/annotations.csv', index=False)
    return folder/'shop/annotations.csv', table, drawn.schema

@pytest.fixture(scope='module')
def photos(shop, tmp_path_factory):
    "The job on them, with γ chosen by type: the table, its types, its rows, and what was said."
    path, table, schema = shop
    folder = tmp_path_factory.mktemp('job')
    return table, schema, *job(folder, folder/'store', dataset=path, gamma='tune', yardstick=True, unfocused=True)

def test_the_main_job_on_photos_beside_a_table_with_gaps(photos):
    table, schema, rows, text = photos
    assert (table.loc[table.split == 'train', list(schema.names)] != '').mean().between(.1, .9).all()
    complete(rows, schema, ['observed'], MODELS - {'teacher_long', 'teacher_long_prior'})
    assert set(rows['truth']) == {'observed'} and set(rows['dataset']) == {'shop'}
    leads = rows[rows.model.str.contains(' - ')]
    assert set(leads['model']) == {'student gamma=tune beta=1 - teacher gamma=tune', 'student gamma=tune beta=1 - cross_entropy', 'teacher gamma=tune - teacher gamma=0'}
    assert leads['value'].between(-1, 1).all() and leads['image_variance'].ge(0).all()
    shows(text, 'shop, ours', *schema.names)

def test_gamma_can_be_tuned(photos):
    _, schema, rows, text = photos
    assert set(rows[rows.model == 'teacher']['gamma']) == {'tune', '0'}                 # γ = 0 stands beside it where it is asked for
    for gamma in 0, 1, 3: assert text.count(f'γ = {gamma}: training') == len(schema)
    shows(text, 'Student γ = tune, β = 1')

def test_a_replicate_of_some_types_only(shop, tmp_path):
    "Chosen by name, with commas between; a second choice adds its rows to the file and changes none."
    path, _, schema = shop
    first, second, *_ = schema.names
    found, text = job(tmp_path, tmp_path/'store', dataset=path, types=f'{first}, {second}')
    assert set(found['attribute_type']) == {first, second, 'all'}
    shows(text, 'csv: 0 of them', first, second)
    again, _ = job(tmp_path, tmp_path/'store', dataset=path, types=f'{second},{first}')
    assert again['key'].nunique() == 2
    pd.testing.assert_frame_equal(again[again['key'].isin(found['key'])].reset_index(drop=True), found)

def test_the_main_job_on_real_photos(catalogue, tmp_path):
    rows, text = job(tmp_path, tmp_path/'store', dataset=catalogue)
    schema = load_dataset(catalogue, image_size=32, store=tmp_path/'store').schema
    assert len(schema) == 9
    complete(rows, schema, ['observed'], ['prior', 'teacher', 'student'])
    shows(text, 'catalogue, ours', *schema.names)
