"""The paper's other tables and figures as whole processes, at the size of a test: `papermill nbs/11_table2.ipynb out.ipynb` and its kin."""
import os, shutil
import pandas as pd, pytest
from conftest import ROOT, papermill, said, write_table
from mtss.runs import IDENTITY, provenance, read_rows, samples_of
from mtss.verdicts import paired_differences, read_claims, select

EXPERIMENTS = {   # notebook: its rows, the claims that it judges, parameters that make it short
    '11_table2.ipynb': ('table2.csv', ['C3'], {}),
    '12_table3.ipynb': ('table3.csv', ['C4'], {}),
    '13_table4.ipynb': ('table4.csv', ['C8', 'C18'], dict(datasets='studio,street', longer=True)),
    '14_table5.ipynb': ('table5.csv', ['C9'], {}),
    '15_table6.ipynb': ('table6.csv', ['C12'], {}),
    '16_table7.ipynb': ('table7.csv', ['C13', 'C17'], dict(target='both', base=4, tested=4)),
    '17_fig6.ipynb': ('fig6.csv', ['C5', 'C6', 'C7'], {}),
    '18_fig7.ipynb': ('fig7.csv', ['C10'], {}),
    '19_fig8.ipynb': ('fig8.csv', ['C11'], {}),
    '20_unlabeled.ipynb': ('unlabeled.csv', ['C14'], {}),
    '23_weight.ipynb': ('weight.csv', ['C15', 'C16'], {}),
    '91_peers.ipynb': ('peers.csv', [], dict(trials=1)),
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

@pytest.fixture(scope='module')
def results(tmp_path_factory):
    "One folder of rows for all."
    return tmp_path_factory.mktemp('rows')

@pytest.fixture(scope='module')
def made(shared, results, tmp_path_factory):
    "A notebook → what it says; it is run, and makes its rows, when a test first asks for it."
    pages = tmp_path_factory.mktemp('pages')
    def make(notebook):
        if not (pages/notebook).exists(): papermill(notebook, pages/notebook, shared, preset='smoke', replicates=1, out=results, **EXPERIMENTS[notebook][2])
        return said(pages/notebook)
    return make

@pytest.mark.parametrize('notebook', EXPERIMENTS)
def test_every_model_that_a_claim_names_has_its_rows(notebook, made, results):
    table, names, _ = EXPERIMENTS[notebook]
    text = made(notebook)
    rows = read_rows(results/table)
    assert len(rows) and not rows.duplicated(IDENTITY).any() and rows['value'].notna().all()
    for part, sides in parts(names).items():
        for side in sides: assert len(select(rows, side)), f'{part}: no rows of {side}'
        assert f'{part}  ' in text
    assert 'no rows yet' not in text and 'still missing' not in text

@pytest.mark.parametrize('notebook', EXPERIMENTS)
def test_without_rows_the_page_says_so_and_trains_nothing(notebook, tmp_path):
    papermill(notebook, tmp_path/'out.ipynb', tmp_path/'store', preset='smoke', replicates=0, out=tmp_path/'rows')
    text = said(tmp_path/'out.ipynb')
    assert 'no rows yet' in text and ': training ' not in text
    assert not (tmp_path/'rows').exists() and not (tmp_path/'store/runs').exists()

COMMITTED = dict.fromkeys(['10_table1.ipynb', *EXPERIMENTS], 5) | {'17_fig6.ipynb': 1}     # replicates of which every row of the page is in results/
OF_PHOTOS = {name: 'dataset' for name in ['10_table1.ipynb', '12_table3.ipynb', '14_table5.ipynb', '20_unlabeled.ipynb']} | {'13_table4.ipynb': 'datasets'}    # what the page calls them

def reads_rows_only(folder, notebook, replicates, **parameters):
    "Run a page on a copy of the committed rows, where training would end at once; it finds them all and leaves them as they are."
    rows = shutil.copytree(ROOT/'results', folder/'rows')
    (folder/'store').mkdir()
    (folder/'store/runs').touch()       # a file in the place of the folder of trained networks
    papermill(notebook, folder/'out.ipynb', folder/'store', replicates=replicates, out=rows, **parameters)
    text = said(folder/'out.ipynb')
    for n in range(replicates): assert f'replicate {n}: read from' in text
    assert {path.name: path.read_bytes() for path in rows.glob('*.csv')} == {path.name: path.read_bytes() for path in (ROOT/'results').glob('*.csv')}

@pytest.mark.parametrize('notebook', COMMITTED)
def test_the_page_finds_the_committed_rows_and_trains_nothing(notebook, tmp_path):
    "A row is found by its key: a setting that gets lost on the way there would cost a reader hours."
    reads_rows_only(tmp_path, notebook, COMMITTED[notebook])

@pytest.mark.parametrize('notebook', OF_PHOTOS)
def test_the_page_finds_the_committed_rows_of_photos(notebook, tmp_path, catalogue):
    reads_rows_only(tmp_path, notebook, 5, **{OF_PHOTOS[notebook]: catalogue})

def test_without_the_peers_rows_are_read_and_none_are_made(made, results, shared, tmp_path, monkeypatch):
    "Where a library is missing, rows that are kept are shown all the same, and what to install is said before anything is trained."
    made('91_peers.ipynb')
    (tmp_path/'gone').mkdir()
    (tmp_path/'gone/sitecustomize.py').write_text("import sys\nsys.modules['timm'] = None\n", encoding='utf-8')
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(filter(None, [str(tmp_path/'gone'), os.environ.get('PYTHONPATH')])))
    papermill('91_peers.ipynb', tmp_path/'out.ipynb', shared, preset='smoke', replicates=1, trials=1, out=results)
    assert 'replicate 0: read from peers.csv' in said(tmp_path/'out.ipynb')
    assert f"replicate 0: {provenance()['cpu']}" in said(tmp_path/'out.ipynb')
    done = papermill('91_peers.ipynb', tmp_path/'wrong.ipynb', tmp_path/'store', preset='smoke', out=tmp_path/'none', check=False)
    assert done.returncode and "timm cannot be found: install the peers by  pip install -e '.[peers]'" in done.stderr
    assert not list((tmp_path/'none').glob('*.csv')) and not (tmp_path/'store/peers').exists()

def test_peers_on_photos(shared, tmp_path):
    "A table of photos instead of the drawn garments: every tool has its rows, and differences their variance over the photos."
    table = write_table(tmp_path/'shop', 240)
    papermill('91_peers.ipynb', tmp_path/'out.ipynb', shared, preset='smoke', dataset=str(table), replicates=1, trials=1, out=tmp_path/'rows')
    rows = read_rows(tmp_path/'rows/peers.csv')
    assert set(rows['dataset']) == {'shop'} and {'student', 'fastai', 'timm', 'proxy_anchor', 'normalized_softmax'} <= set(rows['model'])
    assert rows.loc[rows['model'].str.contains(' - '), 'image_variance'].notna().all() and 'no rows yet' not in said(tmp_path/'out.ipynb')

def test_average_precision_on_photos_counts_their_choice_in(shared, tmp_path):
    "Where all replicates share their test photos, C14 is judged by trainings and photos, as every claim is."
    table = write_table(tmp_path/'shop', 240)
    papermill('20_unlabeled.ipynb', tmp_path/'out.ipynb', shared, preset='smoke', dataset=str(table), replicates=2, out=tmp_path/'rows')
    rows = read_rows(tmp_path/'rows/unlabeled.csv')
    pairs = [(a, b) for sides in parts(['C14']).values() for a, b in zip(sides[:len(sides) // 2], sides[len(sides) // 2:])]
    assert len(pairs) == 4
    for a, b in pairs:
        means = rows[(rows['model'] == f'{a} - {b}') & (rows['replicate'] == -1)]
        found = paired_differences(rows, a, b, 'mAP', 0)
        assert set(means['metric']) == {'mAP'} and set(means['attribute_type']) == set(found['attribute_type']) and found['replicate'].nunique() == 2
        assert found.groupby('attribute_type')['image_variance'].first().to_dict() == means.set_index('attribute_type')['image_variance'].to_dict()
        assert (means['image_variance'] >= 0).all()       # two pools of a batch are one and the same
    assert (means['image_variance'] > 0).any()
    samples_of(tmp_path/'rows/unlabeled.csv').unlink()      # as rows were that are older than the differences
    rows[~rows['model'].str.contains(' - ')].to_csv(tmp_path/'rows/unlabeled.csv', index=False, lineterminator='\n')
    papermill('20_unlabeled.ipynb', tmp_path/'again.ipynb', shared, preset='smoke', dataset=str(table), replicates=2, out=tmp_path/'rows')
    assert read_rows(tmp_path/'rows/unlabeled.csv').equals(rows) and ': training ' not in said(tmp_path/'again.ipynb')

def test_the_ledger_knows_every_row(made, results, tmp_path):
    "Every claim but those of Table 1 has a number."
    for notebook in EXPERIMENTS: made(notebook)
    papermill('90_claims.ipynb', tmp_path/'out.ipynb', tmp_path/'store', preset='smoke', out=results)
    text = said(tmp_path/'out.ipynb')
    assert text.count('no rows yet') >= len(parts(['C1', 'C2'])) and 'too few replicates: 1 of 5' in text

def test_the_page_on_photos_reads_any_set_of_rows(made, results, tmp_path):
    for notebook in ('12_table3.ipynb', '13_table4.ipynb', '14_table5.ipynb', '20_unlabeled.ipynb'): made(notebook)
    papermill('90b_photos.ipynb', tmp_path/'out.ipynb', tmp_path/'store', preset='smoke', dataset='synthetic', out=results)
    text = said(tmp_path/'out.ipynb')
    assert all(f'{part:<5}' in text for part in ('C4a', 'C8a', 'C9a', 'C14a', 'C14b')) and 'C2a: no rows yet' in text and 'teachers' in text
    papermill('90b_photos.ipynb', tmp_path/'none.ipynb', tmp_path/'store', out=tmp_path/'none')
    assert all(f'{part}: no rows yet' in said(tmp_path/'none.ipynb') for part in ('C2a', 'C4a', 'C8a', 'C9a', 'C14a'))

def test_other_readings_are_measured(shared, tmp_path):
    papermill('95_fidelity.ipynb', tmp_path/'part.ipynb', shared, preset='smoke', replicates=1, parts='student', out=tmp_path)      # a page without a teacher's row
    assert set(read_rows(tmp_path/'fidelity.csv')['model']) == {'student_asked', 'student_views_2', 'student_views_4'}
    papermill('95_fidelity.ipynb', tmp_path/'out.ipynb', shared, preset='smoke', replicates=1, out=tmp_path)
    assert set(read_rows(tmp_path/'fidelity.csv')['model']) == {'teacher', 'teacher_held', 'teacher_unheld', 'teacher_separate', 'teacher_plain_sgd', 'student_asked', 'student_views_2', 'student_views_4', 'weights',
                                                                  'plain_teacher', 'plain_student', 'leaning_teacher', 'leaning_student', 'kept_teacher', 'kept_student', 'masked_teacher', 'masked_student', 'unlearned'}
    assert 'least weight' in (text := said(tmp_path/'out.ipynb')) and 'negatives the other way' in text and '4 views' in text and 'teacher, leaning less as they rank' in text and 'teacher, masked less in the ranking' in text

def test_a_panel_by_itself(shared, tmp_path):
    "And an unknown one is named before anything is trained."
    papermill('17_fig6.ipynb', tmp_path/'out.ipynb', shared, preset='smoke', replicates=1, panels='dim', out=tmp_path/'rows')
    assert set(read_rows(tmp_path/'rows/fig6.csv')['model']) == {'teacher_dim_full', 'teacher_dim_half', 'teacher_dim_quarter'}
    done = papermill('17_fig6.ipynb', tmp_path/'wrong.ipynb', tmp_path/'store', preset='smoke', panels='dim,size', out=tmp_path/'none', check=False)
    assert done.returncode and "unknown panel 'size'; known: gamma, dim, labels" in done.stderr
    assert not (tmp_path/'none').exists() and not (tmp_path/'store/runs').exists()

# --- the picture of Figure 7

def test_the_picture_is_shown_from_its_points_and_made_when_asked(shared, tmp_path):
    def job(store, **parameters):
        papermill('18_fig7.ipynb', tmp_path/'out.ipynb', store, preset='smoke', out=tmp_path/'rows', **parameters)
        return said(tmp_path/'out.ipynb')
    assert 'the points of the picture were made' in job(shared)
    points = pd.read_csv(tmp_path/'rows/fig7_points.csv')
    text = job(tmp_path/'empty')                                         # rows and points are there, the models are not
    assert 'no model was needed' in text and ': training ' not in text
    text = job(tmp_path/'empty', attribute_type='colour')                # nothing is trained unasked
    assert 'colour: no picture' in text and ': training ' not in text
    text = job(shared, attribute_type='colour', picture=True)
    assert 'colour: the points of the picture were made' in text and ': training ' not in text
    both = pd.read_csv(tmp_path/'rows/fig7_points.csv')
    assert set(both['attribute_type']) == {'pattern', 'colour'} and both[:len(points)].equals(points)

# --- where the images are few

def test_a_pool_is_never_smaller_than_a_batch(shared, tmp_path):
    papermill('20_unlabeled.ipynb', tmp_path/'out.ipynb', shared, preset='smoke', replicates=0, out=tmp_path/'rows')
    assert 'images in the pool: 32, 32, 300, 600' in said(tmp_path/'out.ipynb')
