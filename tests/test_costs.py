"""What things cost, as whole pages: they are measured once, and then read."""
import pandas as pd
from conftest import papermill, said

def test_speed_is_measured_once_and_then_read(tmp_path):
    "What the numbers are is left to the machine; that each figure has both its sides is not."
    def job(**parameters):
        papermill('91b_speed.ipynb', tmp_path/'out.ipynb', tmp_path/'store', preset='smoke', compiled=False, out=tmp_path/'rows', **parameters)
        return said(tmp_path/'out.ipynb')
    text, table = job(repeats=1), tmp_path/'rows/speed.csv'
    rows = pd.read_csv(table)
    assert (rows['against'] > 0).all() and (rows.loc[rows['unit'] != 'MB', 'measured'] > 0).all()
    assert set(rows.loc[rows['part'].str.startswith('options'), 'figure']) == {'channels first', 'bfloat16'}
    assert 'still missing' not in text and 'no figures yet' not in text and '≥ 0.9' in text
    rows[rows['part'] != 'input'].to_csv(table, index=False)
    before = table.read_bytes()
    text = job(repeats=0)                       # nothing is measured unasked
    assert 'training of small: read from speed.csv' in text and 'input: no figures yet' in text and 'still missing: waiting for pixels' in text
    assert table.read_bytes() == before

def test_costs_are_measured_once_and_the_bill_is_right(tmp_path):
    def job(**parameters):
        papermill('92_scaling.ipynb', tmp_path/'out.ipynb', tmp_path/'store', preset='smoke', largest=10_000, **parameters)
        return said(tmp_path/'out.ipynb')
    text = job(repeats=0, out=tmp_path/'none', images_per_second=1000)
    assert 'no figures yet' in text and not (tmp_path/'none').exists()
    # by hand: 40 epochs of 2343 steps of 128 pairs for each of 6 teachers, at 1000 images per second; 64 GPUs leave two images to each where 16 are the least
    assert '6 × 93,720 steps × 256 images ÷ 1000 per second = 40.0 h' in text and 'batch, × 8.0' in text
    assert 'measured now' in job(repeats=1, out=tmp_path/'rows')
    rows = pd.read_csv(tmp_path/'rows/scaling.csv')
    assert not rows.duplicated(['work', 'size', 'dim', 'turn', 'metric']).any() and (rows.loc[rows['metric'].str.contains('seconds|ratio'), 'value'] > 0).all()
    for work, own in rows[rows['work'] != 'step'].groupby('work'): assert set(own['size']) == {1000, 10_000}, work
    assert len(rows[(rows['work'] == 'step') & (rows['metric'] == 'ratio')]) == 5 * 6          # κ, D
    before = (tmp_path/'rows/scaling.csv').read_bytes()
    text = job(repeats=1, out=tmp_path/'rows')
    assert 'read from scaling.csv' in text and 'no figures yet' not in text and (tmp_path/'rows/scaling.csv').read_bytes() == before
