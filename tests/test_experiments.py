"""The paper's other tables and figures as whole processes, at the size of a test: `papermill nbs/13_table4.ipynb out.ipynb` and its kin."""
import pytest
from conftest import ROOT, papermill, said
from mtss.runs import IDENTITY, read_rows
from mtss.verdicts import read_claims, select

EXPERIMENTS = {   # notebook: its rows, the claims that it judges, parameters that make it short
    '13_table4.ipynb': ('table4.csv', ['C8', 'C18'], dict(datasets='studio,street', longer=True)),
    '15_table6.ipynb': ('table6.csv', ['C12'], {}),
    '16_table7.ipynb': ('table7.csv', ['C13', 'C17'], dict(target='clean', base=4, tested=4)),
}

def parts(names):
    "The parts of some claims, each with the models that it names."
    claims = read_claims(ROOT/'results/claims.csv')
    chosen = claims[claims['claim'].isin(names)]
    return {claim['claim'] + claim['part']: [side for sides in (claim['a'], claim['b']) for side in sides.split(' | ') if side] for _, claim in chosen.iterrows()}

@pytest.fixture(scope='module')
def shared(tmp_path_factory):
    "One store for all: what a table trained, the next one finds."
    return tmp_path_factory.mktemp('shared store')

@pytest.mark.parametrize('notebook', EXPERIMENTS)
def test_every_model_that_a_claim_names_has_its_rows(notebook, shared, tmp_path):
    table, names, short = EXPERIMENTS[notebook]
    papermill(notebook, tmp_path/'out.ipynb', shared, preset='smoke', replicates=1, out=tmp_path/'rows', **short)
    rows, text = read_rows(tmp_path/'rows'/table), said(tmp_path/'out.ipynb')
    assert not rows.duplicated(IDENTITY).any() and set(rows['truth']) == {'clean', 'observed'}
    for part, sides in parts(names).items():
        for side in sides: assert len(select(rows, side)), f'{part}: no rows of {side}'
        assert f'{part}  ' in text
    assert 'no rows yet' not in text and 'still missing' not in text and 'too few replicates: 1 of 5' in text

@pytest.mark.parametrize('notebook', EXPERIMENTS)
def test_without_rows_the_page_says_so_and_trains_nothing(notebook, tmp_path):
    papermill(notebook, tmp_path/'out.ipynb', tmp_path/'store', preset='smoke', replicates=0, out=tmp_path/'rows')
    text = said(tmp_path/'out.ipynb')
    assert 'no rows yet' in text and 'the rows are still missing' in text and ': training ' not in text
    assert not (tmp_path/'rows').exists() and not (tmp_path/'store/runs').exists()
