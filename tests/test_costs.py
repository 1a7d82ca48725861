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
    assert set(rows.loc[rows['part'].str.startswith('options'), 'figure']) == {'channels first', 'bfloat16', 'memory given back'}
    parts = rows[rows['part'] == 'parts of a step']
    steps = parts.groupby([parts['figure'].str.split(': ').str[0], 'turn'])
    assert len(steps) == 3 and (steps['measured'].sum() <= 1.001 * steps['against'].first()).all()     # no more than the whole, of which they are
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
    deepfashion, _, hundred_million = text.split('student, asking')[1:]
    # 100 epochs of 2343 steps of 128 images, each at three passes: 29,990,400 · 3 ÷ 1000 s. 64,000 images a second: a square, and 1024 numbers in half precision for each of 6 types
    assert '29,990,400 images × (1 + 6 × 0.333) ÷ 1000 = 25.0 h' in deepfashion
    assert '(150,528 + 6 × 2,048) bytes = 10.4 GB/s' in deepfashion
    # 101 million images, once: 370,333 s at 1 + 8/3 passes, 269,333 s at 8/3, so one view of each, 101,000,000 · 8 · 2048 bytes; 15.2 TB of squares are more than half of 8
    assert '101,000,000 images × (1 + 8 × 0.333) ÷ 1000 = 102.9 h' in hundred_million
    assert '1 view × 101,000,000 images × 8 × 0.333 ÷ 1000 = 74.8 h' in hundred_million
    assert '1 × 101,000,000 × 8 × 2,048 bytes = 1,654.8 GB' in hundred_million and 'more than half of the disk: not kept' in hundred_million
    assert '(50,000 + 8 × 2,048) bytes = 4.2 GB/s' in hundred_million
    assert '150 photos per second and core are assumed' in text
    assert 'measured now' in job(repeats=1, out=tmp_path/'rows')
    rows = pd.read_csv(tmp_path/'rows/scaling.csv')
    assert not rows.duplicated(['work', 'size', 'dim', 'turn', 'metric']).any() and (rows.loc[rows['metric'].str.contains('seconds|ratio'), 'value'] > 0).all()
    for work, own in rows[rows['work'] != 'step'].groupby('work'): assert set(own['size']) == {1000, 10_000}, work
    assert len(rows[(rows['work'] == 'step') & (rows['metric'] == 'ratio')]) == 5 * 6          # κ, D
    before = (tmp_path/'rows/scaling.csv').read_bytes()
    (tmp_path/'rows/speed.csv').write_text('machine,setting,figure,measured\n' + '"4 cores, x86_64, no GPU","4,000 JPEGs of 200 px",building the store,6000\n')
    text = job(repeats=1, out=tmp_path/'rows')
    assert 'read from scaling.csv' in text and 'no figures yet' not in text and (tmp_path/'rows/scaling.csv').read_bytes() == before
    assert '6,000 photos per second ÷ 4 cores × (200 × 200) ÷ (400 × 500) = 300 photos per second and core' in text
