"""The notebooks of the paper's tables and figures as whole processes, in smoke."""
import re
import pandas as pd, pytest
from conftest import ROOT, papermill, said
from mtss.runs import COLUMNS, IDENTITY, load_for, read_rows
from mtss.verdicts import read_claims, select

# notebook, its rows, the claims that it judges, and models that no claim names
EXPERIMENTS = [('18_fig7.ipynb', 'fig7', ['C10'], {'student_shuffled', 'student_untrained'}),
               ('19_fig8.ipynb', 'fig8', ['C11'], {'teacher'}),
               ('20_unlabeled.ipynb', 'unlabeled', ['C14'], set()),
               ('23_weight.ipynb', 'weight', ['C15', 'C16'], set())]

@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    "One store for all: what one notebook trains, the next one finds."
    return tmp_path_factory.mktemp('experiments')/'store'

def sides(claims):
    "Every model that some claims name, as they name it."
    named = read_claims(ROOT/'results/claims.csv').query('claim in @claims')
    return {side for column in ('a', 'b') for cell in named[column] for side in cell.split(' | ') if side}

@pytest.mark.parametrize('notebook, name, claims, more', EXPERIMENTS, ids=[name for _, name, *_ in EXPERIMENTS])
def test_an_experiment_from_nothing_to_its_verdicts(notebook, name, claims, more, trained, tmp_path):
    papermill(notebook, tmp_path/'out.ipynb', trained, preset='smoke', out=tmp_path/'rows')
    rows, text = read_rows(tmp_path/f'rows/{name}.csv'), said(tmp_path/'out.ipynb')
    assert list(rows.columns) == COLUMNS and not rows.duplicated(IDENTITY).any() and rows['value'].notna().all()
    assert set(rows['preset']) == {'smoke'} and set(rows['replicate']) == {0}
    for side in sides(claims): assert len(select(rows, side)), f'{side}: no rows'
    assert {side.split()[0] for side in sides(claims)} | more == set(rows['model'])
    for claim in claims: assert re.search(rf'{claim}\w  ', text), claim

@pytest.mark.parametrize('notebook, name, claims, more', EXPERIMENTS, ids=[name for _, name, *_ in EXPERIMENTS])
def test_an_experiment_without_rows_says_so_and_trains_nothing(notebook, name, claims, more, tmp_path):
    papermill(notebook, tmp_path/'out.ipynb', tmp_path/'store', preset='smoke', replicates=0, out=tmp_path/'rows')
    text = said(tmp_path/'out.ipynb')
    assert 'no rows yet' in text and ': training ' not in text and not (tmp_path/'rows').exists()

# --- the picture of Figure 7

def test_the_picture_is_shown_from_its_points_and_made_when_asked(trained, tmp_path):
    def job(store, **parameters):
        papermill('18_fig7.ipynb', tmp_path/'out.ipynb', store, preset='smoke', out=tmp_path/'rows', **parameters)
        return said(tmp_path/'out.ipynb')
    assert 'the points of the picture were made' in job(trained)
    points = pd.read_csv(tmp_path/'rows/fig7_points.csv')
    text = job(tmp_path/'empty')                                         # rows and points are there, the models are not
    assert 'no model was needed' in text and ': training ' not in text
    text = job(tmp_path/'empty', attribute_type='colour')                # nothing is trained unasked
    assert 'colour: no picture' in text and ': training ' not in text
    text = job(trained, attribute_type='colour', picture=True)
    assert 'colour: the points of the picture were made' in text and ': training ' not in text
    both = pd.read_csv(tmp_path/'rows/fig7_points.csv')
    assert set(both['attribute_type']) == {'category', 'colour'} and both[:len(points)].equals(points)

# --- where the images are few

def test_a_pool_is_never_smaller_than_a_batch(trained, tmp_path):
    papermill('20_unlabeled.ipynb', tmp_path/'out.ipynb', trained, preset='smoke', replicates=0, out=tmp_path/'rows')
    assert 'images in the pool: 32, 32, 300, 600' in said(tmp_path/'out.ipynb')
    assert len(load_for('synthetic', 'smoke', store=trained).rows('train', 'unlabeled')) == 600
