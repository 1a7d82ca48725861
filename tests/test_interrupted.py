"""Killed at any moment, a run goes on where it was, and ends with the same bits as one that nobody disturbed."""
import json, multiprocessing, os, random, shutil, signal, subprocess, sys, time
from functools import partial
import pandas as pd, pytest, torch
from conftest import ROOT, little, trained, weights, write_table

EVERY = 3                                          # steps between two checkpoints

def pytest_generate_tests(metafunc):
    "Three histories of random kills; with `--slow` thirty."
    if 'n' in metafunc.fixturenames: metafunc.parametrize('n', range(30 if metafunc.config.getoption('--slow') else 3))

@pytest.fixture(scope='module')
def processes():
    "A place where processes start quickly: it has imported the library, and done nothing with it."
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['mtss.runs', 'conftest'])
    return context

def settings():
    schedule = dict(batch=8, evaluate_every=1, checkpoint_every=EVERY)
    return little(sizes=dict(train=60, val=30, test=700, unlabeled=40), dim=4, kept_embeddings=1200, teacher=dict(steps=8, **schedule), student=dict(steps=11, **schedule))

def train(store): trained(store, settings())

def decode(table, store, decode_ahead=True):
    from mtss.datasets import load_dataset
    return load_dataset(table, image_size=16, store=store, decode_ahead=decode_ahead)

def train_on_photos(table, store, decode_ahead):
    from mtss.runs import train_student, train_teachers
    data = decode(table, store, decode_ahead)
    train_student(data, train_teachers(data, 1, settings(), store=store), 1, settings(), store=store)

def work(job, store, die_at, report):
    "What a process does. It is killed at its `die_at`-th moment, right before or after a file is safely there; the number of moments is the report."
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.dup2(os.open(report.with_suffix('.txt'), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    moments, written = [0], [0]
    def moment():
        if moments[0] == die_at: os.kill(os.getpid(), signal.SIGKILL)
        moments[0] += 1
    def around(function):
        def wrapped(*args):
            moment()
            function(*args)
            moment()
        return wrapped
    os.fsync, os.replace = around(os.fsync), around(os.replace)
    from mtss.store import ChunkedArray
    write = ChunkedArray.write
    def counted(*args):
        written[0] += 1
        write(*args)
    ChunkedArray.write = counted
    job(store)
    report.write_text(json.dumps(dict(moments=moments[0], chunks=written[0])))

def run(processes, job, store, die_at=None, die_after=None):
    "One process from start to end, or until it is killed at a moment or after some seconds; its report, None if it was killed."
    report = store.with_suffix('.json')
    report.unlink(missing_ok=True)
    process = processes.Process(target=work, args=(job, store, die_at, report))
    process.start()
    process.join(die_after)
    if process.is_alive(): process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return json.loads(report.read_text()) if process.exitcode == 0 else None

def arrays(store):
    "The bytes of every array in a store."
    return {path.relative_to(store): path.read_bytes() for path in sorted(store.rglob('*')) if path.name in ('array.bin', 'chunks.json', 'unreadable.json')}

def checkpoints(store):
    "The steps at which the runs of a store have a checkpoint."
    from mtss.training import load_tensors
    return {path.parent.name: load_tensors(path)[1]['step'] for path in store.glob('runs/*/checkpoint.safetensors')}

def same(store, undisturbed):
    a, b = weights(store), weights(undisturbed)
    assert a.keys() == b.keys() and a and all(torch.equal(a[name], b[name]) for name in a)
    assert arrays(store) == arrays(undisturbed)
    assert not list(store.rglob('checkpoint.safetensors'))

def check_logs(store, seen):
    "Every run of a store went on from the checkpoints that it had, and repeated no more than lies between two of them."
    for log in store.glob('runs/*/log.csv'):
        rows = pd.read_csv(log)
        assert list(rows.columns[:3]) == ['start', 'resumed_at', 'step']
        again = rows['step'].diff().fillna(1) != 1
        assert (rows['step'][again] == rows['resumed_at'][again] + 1).all()                            # each start goes on where it says
        assert (rows['resumed_at'] % EVERY == 0).all()
        assert (rows['step'].shift()[again] - rows['resumed_at'][again] <= EVERY).all()
        assert rows['step'].iloc[-1] == rows['step'].max() and rows['step'].max() in (8, 11)
        for step in seen.get(log.parent.name, ()): assert step in set(rows['resumed_at'])
        assert rows.drop_duplicates('step')['loss'].tolist() == rows.drop_duplicates('step', keep='last')['loss'].tolist()   # the same steps, not others

@pytest.fixture(scope='module')
def undisturbed(processes, tmp_path_factory):
    "Stores that were filled without a kill, and the report of filling them."
    folder, found = tmp_path_factory.mktemp('undisturbed'), {}
    for name, job in dict(training=train, images=partial(decode, write_table(folder/'photos', 1300)), digests=partial(decode, folder/'photos/annotations.csv', decode_ahead=False)).items():
        start = time.monotonic()
        found[name] = dict(job=job, store=folder/name, **run(processes, job, folder/name), seconds=time.monotonic() - start)
    return found

def test_training_killed_around_a_file(n, processes, undisturbed, tmp_path):
    "The kill falls right before or after a chunk, a checkpoint or a model is on disk: three kills in a row, then to the end."
    reference, chance, seen = undisturbed['training'], random.Random(n), {}
    store = tmp_path/'store'
    for _ in range(3):
        assert run(processes, train, store, die_at=chance.randrange(reference['moments'] // 3)) is None
        for name, step in checkpoints(store).items():
            if step not in (8, 11): seen.setdefault(name, set()).add(step)
    assert run(processes, train, store)
    same(store, reference['store'])
    check_logs(store, seen)

def test_training_killed_at_any_time(n, processes, undisturbed, tmp_path):
    "By the clock, wherever that falls: up to three kills, and at least one."
    reference, chance, seen, killed = undisturbed['training'], random.Random(), {}, 0
    store, longest = tmp_path/'store', .5 * reference['seconds']
    while killed < 3:
        moment = chance.uniform(0, longest)
        if run(processes, train, store, die_after=moment):
            if killed: break
            shutil.rmtree(store)                             # it came to its end first: another time, and sooner
            longest /= 2
            continue
        killed += 1
        print(f'killed after {moment:.3f} s')
        for name, step in checkpoints(store).items():
            if step not in (8, 11): seen.setdefault(name, set()).add(step)
    run(processes, train, store)
    same(store, reference['store'])
    check_logs(store, seen)

def test_a_killed_student_goes_on_from_its_checkpoint_and_says_so(processes, undisturbed, tmp_path):
    reference, store = undisturbed['training'], tmp_path/'store'
    assert run(processes, train, store, die_at=reference['moments'] - 10) is None    # before the last checkpoint; after it comes only the model
    (name, step), = checkpoints(store).items()
    assert 0 < step < 11
    assert run(processes, train, store)
    rows = pd.read_csv(store/'runs'/name/'log.csv')
    assert rows['resumed_at'].iloc[-1] == step and rows['start'].iloc[-1] == 2
    assert f'resumed at step {step}' in store.with_suffix('.txt').read_text()
    same(store, reference['store'])

def test_a_checkpoint_is_gone_once_its_model_is_there(processes, undisturbed, tmp_path):
    "Even if the kill fell between the two."
    reference, store = undisturbed['training'], tmp_path/'store'
    assert run(processes, train, store, die_at=reference['moments'] - 1) is None
    assert checkpoints(store)
    assert run(processes, train, store)
    same(store, reference['store'])

@pytest.mark.parametrize('name, moment', [('training', 13), ('training', -60), ('images', 18), ('images', -3), ('digests', 12), ('digests', -3)])
def test_arrays_that_were_killed_go_on(name, moment, processes, undisturbed, tmp_path):
    "What was drawn, embedded or decoded is not made again."
    reference, store = undisturbed[name], tmp_path/'store'
    assert run(processes, reference['job'], store, die_at=moment % reference['moments']) is None
    kept = sum(len(json.loads(path.read_text())['done']) for path in store.rglob('chunks.json'))
    assert kept > 0
    repeated = run(processes, reference['job'], store)['chunks'] - (reference['chunks'] - kept)
    assert 0 <= repeated <= (name == 'images')       # pixels whose digests were lost are decoded again
    assert arrays(store) == arrays(reference['store'])

def test_training_from_files_killed_again_and_again(processes, tmp_path):
    "Ends in the weights of an undisturbed run from the store."
    table, store = write_table(tmp_path/'photos'), tmp_path/'store'
    reference = run(processes, partial(train_on_photos, table, decode_ahead=True), tmp_path/'ahead')
    for part in 3, 2: assert not run(processes, partial(train_on_photos, table, decode_ahead=False), store, die_at=reference['moments'] // part)
    assert run(processes, partial(train_on_photos, table, decode_ahead=False), store)
    a, b = weights(store), weights(tmp_path/'ahead')
    assert a.keys() == b.keys() and a and all(torch.equal(a[name], b[name]) for name in a)
    assert 'resumed at step' in store.with_suffix('.txt').read_text() and not list(store.rglob('pixels'))

def test_a_kill_leaves_no_half_written_file_behind_a_name(processes, undisturbed, tmp_path):
    "At every moment of making an image store each file that has its name can be read."
    reference, store = undisturbed['images'], tmp_path/'store'
    for die_at in range(reference['moments']):
        if run(processes, reference['job'], store, die_at=die_at): break
        for path in store.rglob('*.json'): json.loads(path.read_text())
    run(processes, reference['job'], store)
    assert arrays(store) == arrays(reference['store'])

# --- two processes at once

def rows(store):
    "Train and judge a replicate; its rows go to a file of the process's own."
    from mtss.runs import run_or_read
    run_or_read(store.parent/f'rows of {os.getpid()}'/'table1.csv', preset=little(), store=store)

def speak(job, store, said):
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 1)
    job(store)

def wait_until(happened, seconds=120):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(.01)

def test_of_two_processes_that_want_the_same_run_one_trains_and_the_other_waits(processes, tmp_path):
    "The first is held up while it has the run; the rows of both are those of a lone process."
    def begin(store, name):
        process = processes.Process(target=speak, args=(rows, store, tmp_path/name))
        process.start()
        return process
    first = begin(tmp_path/'store', 'first')
    wait_until(lambda: list(tmp_path.glob('store/runs/*/config.json')))
    os.kill(first.pid, signal.SIGSTOP)
    try:
        second = begin(tmp_path/'store', 'second')
        wait_until(lambda: (tmp_path/'second').exists() and 'waiting: another process' in (tmp_path/'second').read_text())
    finally: os.kill(first.pid, signal.SIGCONT)
    alone = begin(tmp_path/'another store', 'alone')
    for process in first, second, alone:
        process.join()
        assert process.exitcode == 0
    assert (tmp_path/'first').read_text().count(': training ') + (tmp_path/'second').read_text().count(': training ') == 6      # each network once
    found = [(tmp_path/f'rows of {process.pid}'/'table1.csv').read_bytes() for process in (first, second, alone)]
    assert found[0] == found[1] == found[2]
    same(tmp_path/'store', tmp_path/'another store')

@pytest.mark.slow
def test_the_script_that_kills_phase_by_phase():
    done = subprocess.run([sys.executable, ROOT/'tools/kill_test.py', '--kills', '1', '--photos', '600'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'every run ended with the bits of the undisturbed one' in done.stdout
