"""What is committed in results/: well formed, complete, and what the code gives."""
import csv, dataclasses, json, random
import pandas as pd, pytest, torch
from conftest import ROOT, little
from mtss.runs import COLUMNS, IDENTITY, KS, configuration_key, judge_scores, keep_rows, load_for, measure_replicate, provenance, read_rows, resolve, teacher_scores, train_teachers
from mtss.schema import Schema
from mtss.verdicts import read_claims

def rows_of_results():
    "Every committed file of rows."
    files = [path for path in sorted((ROOT/'results').glob('*.csv')) if next(csv.reader(path.open(encoding='utf-8'))) == COLUMNS]
    return {path: read_rows(path) for path in files}

SIGNED = {'gain_rank_correlation', 'embedding_agreement', 'linear_cka', 'neighbour_overlap'}      # of Figures 7 and 8: from -1 to 1
FREE = {'log2_largest_lr', 'eq3_at_rate', 'eq3_of_best_constant', 'seconds_per_image', 'parameters',      # of 23_weight: any number
        'lr', 'seconds', 'bytes', 'peak_memory', 'start_memory', *(f'trial{n}_{name}' for n in range(1, 6) for name in ('lr', 'seconds'))}      # of 91_peers

def check(path, rows):
    "Assert that a file of rows is well formed."
    lead = rows['model'].str.contains(' - ')
    assert not rows.duplicated(IDENTITY).any()
    assert not set(rows['preset']) & {'smoke', 'own'}, 'too small to count'
    assert set(rows['truth']) <= {'clean', 'observed'} and (rows['replicate'] >= -1).all()
    assert set(rows.loc[rows['metric'] != 'eq3_at_rate', 'k']) <= {0, *KS}      # there k is the exponent of a rate
    assert rows['value'].notna().all()
    signed, free = rows['metric'].isin(SIGNED) | lead, rows['metric'].isin(FREE)
    assert rows.loc[~signed & ~free, 'value'].between(0, 1).all() and rows.loc[signed & ~free, 'value'].between(-1, 1).all()
    assert (rows.loc[lead, 'image_variance'] >= 0).all() and (rows.loc[rows['replicate'] == -1, 'model'].str.contains(' - ')).all()
    assert path.read_bytes() == rows.sort_values(IDENTITY).to_csv(index=False, float_format='%.6g', lineterminator='\n').encode()

def check_complete(rows):
    "Assert that every replicate has its models, and every model all of its types and measures."
    own = rows[rows['replicate'] >= 0]
    for where, part in own.groupby(['dataset', 'preset', 'key']):
        judged = {}
        judged_alike = part[~part['metric'].isin(['accuracy', 'confidence', 'calibration_error'])]      # only a student has a confidence
        for model, one in judged_alike.groupby(['replicate', 'model', 'gamma', 'beta']):
            judged.setdefault(model[1:], {})[model[0]] = set(zip(one['attribute_type'], one['truth'], one['metric'], one['k']))
        for model, by_replicate in judged.items():
            assert len(set(map(frozenset, by_replicate.values()))) == 1, f'{where}, {model}: a replicate lacks rows'
            # a model that some replicates have must be there in all of the first: 0, 1, 2 …
            assert sorted(by_replicate) == list(range(len(by_replicate))), f'{where}, {model}: a replicate lacks it'
        plain = [wanted for (model, *_), by_replicate in judged.items() if ' - ' not in model for wanted in by_replicate.values()]
        assert all(wanted == plain[0] for wanted in plain), f'{where}: a model lacks rows'
        for replicate, there in part.groupby('replicate')['model']: assert {'teacher', 'student', 'prior'} <= set(there), f'{where}: replicate {replicate} lacks a model'

def check_origins(path, rows):
    "Assert that the JSON beside a file says where each of its replicates was made, and holds no other."
    record = json.loads(path.with_suffix('.json').read_text(encoding='utf-8'))
    made = rows.loc[rows['replicate'] >= 0, ['dataset', 'preset', 'key', 'replicate']].drop_duplicates()
    assert record.keys() == {f'{dataset}/{preset}/{key}/replicate {n}' for dataset, preset, key, n in made.itertuples(index=False)}
    for by_setting in record.values():
        for origin in by_setting.values():
            assert {'judged', 'trained', 'settings', 'minutes'} <= origin.keys() and origin['trained']
            for made in origin['judged'], *origin['trained']: assert {'commit', 'machine', 'python', 'versions', 'threads', 'training_code'} <= made.keys()

def test_committed_rows_are_well_formed():
    assert ROOT/'results/table1.csv' in rows_of_results()
    for path, rows in rows_of_results().items(): check(path, rows)

def test_committed_replicates_are_complete():
    "Table 1 has every measure of every model; the other experiments have their own, and begin with replicate 0 all the same."
    for path, rows in rows_of_results().items():
        if path.name == 'table1.csv': check_complete(rows)
        for model, numbers in rows[rows['replicate'] >= 0].groupby(['dataset', 'preset', 'key', 'model', 'gamma', 'beta'])['replicate']:
            assert sorted(numbers.unique()) == list(range(numbers.nunique())), f'{path.name}, {model}: a replicate lacks it'

def test_every_committed_replicate_has_its_origin():
    for path, rows in rows_of_results().items(): check_origins(path, rows)

def test_claims_can_be_read():
    claims = read_claims(ROOT/'results/claims.csv')
    assert set(claims['claim']) == {f'C{n}' for n in range(1, 19)} and (claims['replicates'] == 5).all()

def test_published_numbers_can_be_read():
    published = pd.read_csv(ROOT/'results/published.csv')
    assert published['value_percent'].between(0, 100).all() and not published.duplicated(['table', 'dataset', 'model', 'attribute_type', 'metric', 'note']).any()

def test_a_table_that_is_not_well_formed_is_noticed(tmp_path):
    "The checks above see what they are there for."
    path = tmp_path/'table1.csv'
    rows = pd.DataFrame([dict(dict.fromkeys(IDENTITY, 'x'), replicate=0, model=model, attribute_type=kind, truth='clean', metric='R', k=1, value=.25)
                         for model in ('prior', 'student', 'teacher') for kind in ('all', 'category')], columns=COLUMNS)
    kept = keep_rows(path, rows, 'gamma=1 beta=1', judged=provenance(), trained=[provenance()], settings={}, minutes=1)
    check(path, kept), check_complete(kept), check_origins(path, kept)
    for spoiled in kept.assign(value=kept['value'].where(kept.index != 2, 1.5)), kept.assign(preset='smoke'), pd.concat([kept, kept[:1]]), kept.assign(k=2):
        with pytest.raises(AssertionError): check(path, spoiled)
    for spoiled in kept[:-1], kept[kept['model'] != 'prior']:
        with pytest.raises(AssertionError): check_complete(spoiled)
    with pytest.raises(AssertionError): check_origins(path, kept.assign(replicate=1))

# --- a committed row is what the code gives

ELSEWHERE = .06     # the largest difference of a recall between machines: rounding differs there, and a training that begins alike ends as another one would

def retrain(name, gamma, replicate, preset, store):
    "Train the teacher of one type again; {k: R@k}, on the clean truth. Unlabeled images are of no use to it: none are drawn."
    data = load_for('synthetic', preset, replicate, store, unlabeled=0)
    alone = dataclasses.replace(data, schema=Schema((data.schema[name],)))
    teachers = train_teachers(alone, gamma, preset, replicate, store)
    found = judge_scores(alone, teacher_scores(teachers, alone, alone.rows('test'), preset.view_size))[name]
    return {k: found[f'R@{k}'] for k in KS}

def committed(rows, name, gamma, replicate, key):
    "{k: R@k} as the rows have it."
    own = rows[(rows['model'] == 'teacher') & (rows['gamma'] == gamma) & (rows['attribute_type'] == name) & (rows['replicate'] == replicate)
               & (rows['truth'] == 'clean') & (rows['metric'] == 'R') & (rows['key'] == key)]
    return dict(zip(own['k'], own['value']))

def test_a_teacher_that_is_trained_again_gives_its_row(tmp_path):
    "In small what the slow test below does with a committed row."
    preset, store = little(), tmp_path/'store'
    rows = measure_replicate('synthetic', preset, replicate=2, store=store)
    key = configuration_key(load_for('synthetic', preset, store=store), preset)
    assert retrain('pattern', 1, 2, preset, tmp_path/'another') == committed(rows, 'pattern', '1', 2, key)
    assert committed(rows, 'pattern', '1', 2, key) != committed(measure_replicate('synthetic', preset, replicate=3, store=store), 'pattern', '1', 3, key)

@pytest.fixture
def threads():
    "Gives back the number of threads that a test has changed."
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)

@pytest.mark.slow
def test_a_committed_teacher_that_is_trained_again_gives_its_row(tmp_path, threads):
    "One teacher, drawn at random. On the machine that made the row: the same six digits."
    path, preset = ROOT/'results/table1.csv', resolve('tiny')
    rows, origins = read_rows(path), json.loads(path.with_suffix('.json').read_text(encoding='utf-8'))
    key = configuration_key(load_for('synthetic', preset, store=tmp_path), preset)
    ours = rows[(rows['dataset'] == 'synthetic') & (rows['preset'] == 'tiny') & (rows['model'] == 'teacher') & (rows['gamma'] != 'tune') & (rows['attribute_type'] != 'all')]
    assert key in set(ours['key']), 'the code or the preset has changed since the rows were made: run nbs/10_table1.ipynb again'
    choices = sorted(set(ours.loc[ours['key'] == key, ['attribute_type', 'gamma', 'replicate']].itertuples(index=False, name=None)))
    name, gamma, replicate = random.choice(choices)
    settings = origins[f'synthetic/tiny/{key}/replicate {replicate}']
    setting = next(name for name in settings if name.startswith(f'gamma={gamma} ') or gamma == '0' and 'unfocused' in name)
    origin, here = settings[setting]['trained'][0], provenance()
    same_machine = all(origin.get(part) == here[part] for part in ('machine', 'cpu', 'python', 'versions'))      # older rows do not name the processor
    torch.set_num_threads(origin['threads'])         # sums depend on how they are shared out
    wanted, found = committed(rows, name, gamma, replicate, key), retrain(name, float(gamma), replicate, preset, tmp_path/'store')
    print(f"teacher of {name}, γ = {gamma}, replicate {replicate}, {'the same machine' if same_machine else 'another machine'}: committed {wanted}, now {found}")
    assert wanted.keys() == set(KS)
    for k in KS:
        if same_machine: assert f'{found[k]:.6g}' == f'{wanted[k]:.6g}'
        else: assert abs(found[k] - wanted[k]) <= ELSEWHERE
