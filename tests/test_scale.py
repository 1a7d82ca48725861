"""A table of a million rows: what it costs in memory. (How long it takes is for a benchmark.)"""
import json, subprocess, sys
import numpy as np, pandas as pd, pytest

SIZES = dict(category=105, color=21, gender=3, material=34, neckline=11, pattern=28, sleeve=5, style=21)     # iMaterialist's 228 classes
WORK = '''
import json, resource, sys
import numpy as np
from mtss.datasets import only_trained, with_splits
from mtss.schema import read_table, targets, validate
from mtss.training import ClassMembers, class_balanced_draw
table = only_trained(with_splits(read_table(sys.argv[1])), 'table')
schema = validate(table)
rows = np.flatnonzero(table['split'] == 'train')
members = {kind.name: ClassMembers(targets(table, kind), rows) for kind in schema}
classes, drawn = class_balanced_draw(members['category'], 300_000, 0, 0)
print(json.dumps(dict(gigabytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, rows=len(table), classes=sum(map(len, schema)), drawn=len(drawn))))
'''

@pytest.mark.slow
@pytest.mark.parametrize('kind', ['parquet', 'csv'])
def test_a_million_rows_need_less_than_two_gigabytes(kind, tmp_path):
    rng, n, columns = np.random.default_rng(0), 1_000_000, {}
    for name, count in SIZES.items():
        share = 1 / np.arange(1, count + 1)
        names = np.array([f'{name} {i}' for i in range(count)], object)
        first, second = (rng.choice(count, n, p=share / share.sum()) for _ in range(2))
        columns[name] = np.where(rng.random(n) < .5, '', np.where((rng.random(n) < .3) & (first != second), names[first] + '|' + names[second], names[first]))
    table, path = pd.DataFrame(dict(image=[f'{i}.jpg' for i in range(n)], **columns)), tmp_path/f'table.{kind}'
    table.to_parquet(path) if kind == 'parquet' else table.to_csv(path, index=False)
    done = subprocess.run([sys.executable, '-c', WORK, path], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found['gigabytes'] < 2 and (found['rows'], found['classes'], found['drawn']) == (n, 228, 300_000)
