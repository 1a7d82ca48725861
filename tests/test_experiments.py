"""The paper's other tables and figures as whole processes, at the size of a test: `papermill nbs/11_table2.ipynb out.ipynb` and its kin."""
import pytest
from conftest import ROOT, papermill, said
from mtss.runs import IDENTITY, read_rows
from mtss.verdicts import read_claims, select

EXPERIMENTS = {   # notebook: its rows, the claims that it judges
    '11_table2.ipynb': ('table2.csv', ['C3']),
    '12_table3.ipynb': ('table3.csv', ['C4']),
    '14_table5.ipynb': ('table5.csv', ['C9']),
    '17_fig6.ipynb': ('fig6.csv', ['C5', 'C6', 'C7']),
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
    table, names = EXPERIMENTS[notebook]
    papermill(notebook, tmp_path/'out.ipynb', shared, preset='smoke', replicates=1, out=tmp_path/'rows')
    rows, text = read_rows(tmp_path/'rows'/table), said(tmp_path/'out.ipynb')
    assert not rows.duplicated(IDENTITY).any() and set(rows['truth']) == {'clean', 'observed'}
    for part, sides in parts(names).items():
        for side in sides: assert len(select(rows, side)), f'{part}: no rows of {side}'
        assert f'{part}  ' in text
    assert 'no rows yet' not in text and 'too few replicates: 1 of 5' in text

@pytest.mark.parametrize('notebook', EXPERIMENTS)
def test_without_rows_the_page_says_so_and_trains_nothing(notebook, tmp_path):
    _, names = EXPERIMENTS[notebook]
    papermill(notebook, tmp_path/'out.ipynb', tmp_path/'store', preset='smoke', replicates=0, out=tmp_path/'rows')
    text = said(tmp_path/'out.ipynb')
    assert text.count('no rows yet') == 1 + len(parts(names)) and ': training ' not in text and 'published' in text
    assert not (tmp_path/'rows').exists() and not (tmp_path/'store/runs').exists()

def test_a_panel_by_itself(shared, tmp_path):
    "And an unknown one is named before anything is trained."
    papermill('17_fig6.ipynb', tmp_path/'out.ipynb', shared, preset='smoke', replicates=1, panels='dim', out=tmp_path/'rows')
    assert set(read_rows(tmp_path/'rows/fig6.csv')['model']) == {'teacher_dim_full', 'teacher_dim_half', 'teacher_dim_quarter'}
    done = papermill('17_fig6.ipynb', tmp_path/'wrong.ipynb', tmp_path/'store', preset='smoke', panels='dim,size', out=tmp_path/'none', check=False)
    assert done.returncode and "unknown panel 'size'; known: gamma, dim, labels" in done.stderr
    assert not (tmp_path/'none').exists() and not (tmp_path/'store/runs').exists()
