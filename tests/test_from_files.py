"""Squares that stay in their files: the pixels and the weights of the store, decoded ahead by processes that leave nothing behind."""
import gc, multiprocessing, shutil, subprocess, sys
from types import SimpleNamespace
import numpy as np, pandas as pd, pytest, torch
from conftest import little, weights, write_table
from mtss.datasets import FromFiles, ImageError, image_store, load_dataset
from mtss.runs import train_student, train_teachers
from mtss.training import StudentBatches, TeacherBatches

def load(table, store, decode_ahead): return load_dataset(table, image_size=16, store=store, decode_ahead=decode_ahead)

def work(data, store, preset):
    return train_student(data, train_teachers(data, 1, preset, store=store), 1, preset, store=store)

@pytest.fixture(scope='module')
def both(tmp_path_factory):
    "The same photos from the store and from their files."
    folder = tmp_path_factory.mktemp('both')
    table = write_table(folder/'photos')
    return load(table, folder/'ahead', True), load(table, folder/'files', False)

@pytest.mark.parametrize('how', [dict(negatives='in_batch', kept_embeddings=160), dict(negatives='separate', kept_embeddings=0)], ids=['kept', 'asked'])
def test_training_from_files_gives_the_weights_of_the_store(how, both, tmp_path):
    "Over the end of an epoch too, which the processes reach some steps before training does."
    preset = little(epoch_images=24, student=dict(steps=14, batch=8, evaluate_every=7, checkpoint_every=7), **how)
    ahead, files = both
    assert isinstance(files.pixels, FromFiles) and not isinstance(ahead.pixels, FromFiles) and files.key == ahead.key
    for data, store in (ahead, tmp_path/'ahead'), (files, tmp_path/'files'): work(data, store, preset)
    a, b = weights(tmp_path/'ahead'), weights(tmp_path/'files')
    assert a.keys() == b.keys() and a and all(torch.equal(a[name], b[name]) for name in a)
    assert not multiprocessing.active_children()

def test_a_step_is_the_same_wherever_one_begins(both):
    for make in (lambda data: TeacherBatches(data, 'category', 8, 24, 'separate'), lambda data: TeacherBatches(data, 'category', 8, 24, 'in_batch'),
                 lambda data: StudentBatches(data, data.rows('train'), 8)):
        ahead, files = map(make, both)
        for step in 5, 6, 7, 2, 3, 3, 40:
            a, b = ahead(step), files(step)
            assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
        del files
        assert not multiprocessing.active_children()

@pytest.mark.parametrize('n', [40, 1100], ids=['decoded here', 'decoded by processes'])
def test_the_pixels_are_those_of_the_store(n, tmp_path):
    "With boxes, and with files that cannot be read."
    table = pd.read_csv(write_table(tmp_path/'photos', n))
    (tmp_path/'photos/images/3.png').write_text('not a picture')
    (tmp_path/'photos/images/5.png').unlink()
    boxes = np.where(np.arange(n)[:, None] % 2, [[2., 1., 13., 15.]], np.nan)
    found = [image_store(tmp_path/'photos', list(table['image']), boxes, 12, tmp_path/f'{ahead}', .1, ahead) for ahead in (True, False)]
    (pixels, digests, unreadable), (files, same_digests, same_unreadable) = found
    assert list(unreadable) == [3, 5] and unreadable == same_unreadable and np.array_equal(digests, same_digests)
    assert np.array_equal(pixels, files[:]) and not files[3].any() and files[5].dtype == pixels.dtype
    assert np.array_equal(np.concatenate(list(files.in_order(np.arange(n).reshape(-1, 5)))), pixels)
    with pytest.raises(IndexError): files[n]
    assert not multiprocessing.active_children()

@pytest.fixture
def disk(monkeypatch):
    "A disk with some bytes free: `disk(n)`; and the number of images that were decoded: `disk.decoded`."
    import mtss.datasets as module
    read, found = module._read_file, SimpleNamespace(decoded=0)
    def counted(*args):
        found.decoded += 1
        return read(*args)
    monkeypatch.setattr(module, '_read_file', counted)
    found.free = lambda n: monkeypatch.setattr(module.shutil, 'disk_usage', lambda _: SimpleNamespace(free=n))
    return found

def test_squares_are_kept_where_they_fit_in_half_of_the_free_disk(tmp_path, disk, capfd):
    table, store, squares = write_table(tmp_path/'photos'), tmp_path/'store', 120 * 16 * 16 * 3
    disk.free(2 * squares - 1)
    files = load(table, store, None)
    said = capfd.readouterr().err
    assert isinstance(files.pixels, FromFiles) and said.count('more than half') == 1 and str(store) in said and 'decode_ahead=True' in said
    assert disk.decoded == 120
    load(table, store, False)
    assert disk.decoded == 120 and 'more than half' not in capfd.readouterr().err
    disk.free(2 * squares)
    kept = load(table, store, None)                                       # the digests are there: what is missing are the pixels
    assert disk.decoded == 240 and np.array_equal(kept.pixels, files.pixels[:]) and kept.key == files.key
    decoded = disk.decoded
    disk.free(0)
    assert not isinstance(load(table, store, None).pixels, FromFiles) and not isinstance(load(table, store, True).pixels, FromFiles)     # nothing more to write
    assert isinstance(load(table, store, False).pixels, FromFiles) and disk.decoded == decoded and 'more than half' not in capfd.readouterr().err

@pytest.mark.parametrize('change, cause', [(lambda file, other: file.unlink(), 'there is no such file'), (lambda file, other: shutil.copy(other, file), 'it has changed'),
                                           (lambda file, other: file.write_bytes(file.read_bytes()[:90]), 'the image is damaged')], ids=['gone', 'another', 'cut'])
def test_a_file_that_changes_after_loading_stops_what_reads_it(change, cause, tmp_path):
    "And once it is back, training goes on and ends in the same weights."
    table, preset = write_table(tmp_path/'photos'), little()
    data = load(table, tmp_path/'store', False)
    file = tmp_path/'photos'/data.table['image'][3]                       # in val: read when a score is wanted
    content = file.read_bytes()
    change(file, tmp_path/'photos/images/4.png')
    with pytest.raises(ImageError) as asked: data.pixels[[2, 3]]
    with pytest.raises(ImageError) as trained: work(data, tmp_path/'store', preset)
    for error in asked, trained:
        for part in str(file), cause, 'put it back as it was', 'load the dataset anew': assert part in str(error.value)
    assert 'Traceback' not in str(trained.value)
    del asked, trained, error                                             # a trace holds on to everything
    gc.collect()
    assert not multiprocessing.active_children()
    file.write_bytes(content)
    work(data, tmp_path/'store', preset)
    work(load(table, tmp_path/'ahead', True), tmp_path/'ahead', preset)
    a, b = weights(tmp_path/'ahead'), weights(tmp_path/'store')
    assert a.keys() == b.keys() and a and all(torch.equal(a[name], b[name]) for name in a)

ENDLESS = '''
import itertools, multiprocessing, sys
import numpy as np
from mtss.datasets import load_dataset
data = load_dataset(sys.argv[1], image_size=16, store=sys.argv[2], decode_ahead=False)
for n, _ in enumerate(data.in_order(np.arange(8) for _ in itertools.count())):
    if n == 20: print(len(multiprocessing.active_children()), flush=True)
'''

def test_a_killed_parent_leaves_no_worker_behind(tmp_path):
    with subprocess.Popen([sys.executable, '-c', ENDLESS, write_table(tmp_path/'photos'), tmp_path/'store'], stdout=subprocess.PIPE, text=True) as process:
        assert int(process.stdout.readline()) > 0
        process.kill()
        process.communicate(timeout=60)                                   # the pipe ends with the last process that could write to it
