"""One network trained by two processes: the same steps as by one, and what becomes of a process that dies."""
import json, os, signal, statistics, subprocess, sys, time
from pathlib import Path
import pytest
import torch
from mtss.training import load_tensors

# A regression without batch normalisation, whose mean loss over a batch is the mean of its shares' losses: two processes have to do what one does.
PROGRAM = '''
import os, sys, time
from pathlib import Path
import torch
from torch import nn
from mtss.training import Schedule, fit, part_of, processes, save_tensors

folder, pause = Path(sys.argv[1]), float(sys.argv[2])
process = processes()
(folder/f'pid {process.process_index}').write_text(str(os.getpid()))
torch.manual_seed(0)
x, y = torch.randn(64, 5), torch.randn(64, 1)

class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, batch):
        loss = (self.line(batch['x']) - batch['y']).square().mean()
        return loss, dict(half=loss.detach() / 2)

def batches(step):
    time.sleep(pause)
    share = process.process_index, process.num_processes
    n = part_of(16, share)
    rows = (torch.arange(n) + (step * share[1] + share[0]) * n) % 64
    return dict(x=x[rows], y=y[rows])

def evaluate(objective):
    with open(folder/'evaluations', 'a') as file: file.write(f'{process.process_index} ')
    with torch.no_grad(): return -(objective.line(x) - y).square().mean().item()

objective = Regression()
fit(objective, batches, Schedule(60, 16, .1, momentum=.9, evaluate_every=20, checkpoint_every=10), folder, evaluate, 'regression', 'a regression')
save_tensors(folder/f'end {process.process_index}.safetensors', objective.state_dict())
'''

TORCHRUN = '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2'
# `--cpu` would start one process, unless MPI starts the others. `--multi_gpu` starts them all, and where there is no GPU each takes the CPU
ACCELERATE = '-m', 'accelerate.commands.launch', '--multi_gpu', '--num_processes', '2', '--num_machines', '1', '--main_process_port', '0', '--mixed_precision', 'no', '--dynamo_backend', 'no'

def start(program, processes, *arguments, launcher=TORCHRUN):
    "A Python file run by one process or by two, a thread each."
    command = [sys.executable, *(launcher if processes == 2 else ()), str(program), *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ | dict(OMP_NUM_THREADS='1'), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

def begin(folder, processes, pause=0., launcher=TORCHRUN):
    folder.mkdir(exist_ok=True)
    program = folder/'program.py'
    program.write_text(PROGRAM)
    return start(program, processes, folder, pause, launcher=launcher)

def ended(running, timeout=300):
    out, err = running.communicate(timeout=timeout)
    return running.returncode, out, err

def weights(folder, process=0): return load_tensors(folder/f'end {process}.safetensors')[0]

@pytest.fixture(scope='module')
def by_two(tmp_path_factory):
    "Two processes of `accelerate launch`; the other tests start theirs by `torchrun`."
    folder = tmp_path_factory.mktemp('launch')/'two'
    code, out, err = ended(begin(folder, 2, launcher=ACCELERATE))
    assert code == 0, err[-2000:]
    return folder, out

def test_two_processes_take_the_steps_of_one(by_two, tmp_path):
    code, _, err = ended(begin(tmp_path/'one', 1))
    assert code == 0, err[-2000:]
    for name, tensor in weights(tmp_path/'one').items():
        for process in (0, 1): torch.testing.assert_close(weights(by_two[0], process)[name], tensor, rtol=1e-4, atol=1e-6)
    logs = [[line.split(',')[4] for line in (folder/'log.csv').read_text().splitlines()[1:]] for folder in (by_two[0], tmp_path/'one')]
    assert [float(loss) for loss in logs[0]] == pytest.approx([float(loss) for loss in logs[1]], rel=1e-4)      # of the whole batch, not of a share

def test_the_first_process_evaluates_and_speaks(by_two):
    folder, out = by_two
    assert (folder/'evaluations').read_text().split() == ['0', '0', '0']
    assert out.count('2 processes, each with its share of every batch of 16; learning rate up to 0.1') == 1

@pytest.mark.parametrize('killed', [0, 1])
def test_a_killed_process_ends_the_run_and_it_resumes(killed, by_two, tmp_path):
    "Whichever it is: the first, which evaluates and saves, or another one."
    folder = tmp_path/'killed'
    running = begin(folder, 2, .1)
    while not (folder/'checkpoint.safetensors').exists():
        assert running.poll() is None, running.communicate()[1][-2000:]
        time.sleep(.05)
    os.kill(int((folder/f'pid {killed}').read_text()), signal.SIGKILL)
    code, _, err = ended(running)
    assert code != 0 and 'SIGKILL' in err and not list(folder.glob('end *'))
    code, out, err = ended(begin(folder, 2))
    assert code == 0, err[-2000:]
    assert 'resumed at step' in out
    for name, tensor in weights(by_two[0]).items(): assert torch.equal(weights(folder)[name], tensor)

TEACHER = '''
import sys
from pathlib import Path
import torch
from torch import nn
from mtss.datasets import load_dataset
from mtss.training import Schedule, TeacherBatches, TeacherObjective, embed_views, fit, processes, save_tensors

folder, negatives, store = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
process = processes()
torch.manual_seed(0)

class Plain(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.network, self.dictionary = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 16)), nn.Embedding(classes, 16)

    def forward(self, images): return self.network(images)

data = load_dataset('synthetic', train=200, val=10, test=10, unlabeled=0, image_size=32, store=store)
batches = TeacherBatches(data, 'category', 16, 160, negatives, share=(process.process_index, process.num_processes))
objective = TeacherObjective(Plain(len(data.schema['category'])))
embed_views(dict(category=objective.teacher), data, data.rows('train'), 2, 0, dict(category=folder/'embeddings'), chunk=64)
fit(objective, batches, Schedule(30, 16, .5, momentum=.9, evaluate_every=30, checkpoint_every=30), folder, lambda objective: 0., 'teacher', 'a teacher')
if process.is_main_process: save_tensors(folder/'end 0.safetensors', objective.state_dict())
'''

@pytest.mark.parametrize('negatives', ['in_batch', 'separate'])
def test_a_teacher_has_the_negatives_of_the_whole_batch(negatives, tmp_path):
    """Without batch normalisation two processes end where one does: each judges its positives by the images of both, and gradients find their way back.
    Before that they embed two views of every image, each a part of them: there no sum depends on who adds it up, and the bits are the same."""
    (tmp_path/'program.py').write_text(TEACHER)
    ends, kept = [], []
    for processes in 1, 2:
        folder = tmp_path/str(processes)
        folder.mkdir()
        code, _, err = ended(start(tmp_path/'program.py', processes, folder, negatives, tmp_path/'store'))
        assert code == 0, err[-2000:]
        ends.append(weights(folder))
        kept.append((folder/'embeddings/array.bin').read_bytes())
    assert len(kept[0]) == 2 * 200 * 16 * 2 and kept[0] == kept[1]      # views, images, D, bytes of a number
    for name, tensor in ends[0].items(): torch.testing.assert_close(ends[1][name], tensor, rtol=1e-4, atol=1e-5)

@pytest.mark.parametrize('variable, value, said', [('ACCELERATE_MIXED_PRECISION', 'bf16', dict(precision='bf16')), ('ACCELERATE_DYNAMO_BACKEND', 'eager', dict(compiled='eager'))], ids=['bf16', 'compiled'])
def test_what_changes_the_numbers_changes_the_names(variable, value, said, tmp_path):
    "In bf16, and through torch's compiler (which here only traces), a replicate is trained under names of its own, and finds nothing of the plain one."
    launch = [sys.executable, '-m', 'mtss.launch', '--preset', 'smoke']
    plain = os.environ | dict(MTSS_STORE=str(tmp_path), OMP_NUM_THREADS='1')
    for env in plain, plain | {variable: value}: subprocess.run(launch, env=env, check=True, capture_output=True)
    configs = [json.loads(path.read_text()) for path in tmp_path.glob('runs/*/config.json')]
    assert len(configs) == 2 * 6 and sum(config.items() >= said.items() for config in configs) == 6
    assert all((path.parent/'model.safetensors').exists() for path in tmp_path.glob('runs/*/config.json'))

REPLICATES = '''
import sys
from mtss.runs import load_for, processes, resolve, train_student, train_teachers

often = dict(batch=128, lr=.3, shape='one_cycle', momentum=.9, weight_decay=5e-4, evaluate_every=50, checkpoint_every=50)
preset = resolve('tiny', sizes=dict(train=3000, val=1000, test=10, unlabeled=1000), image_size=32, view_size=32, teacher=dict(steps=100, warmup=15, **often), student=dict(steps=200, warmup=30, **often))
for n in range(5):
    data = load_for('synthetic', preset, n, sys.argv[1])
    teachers = train_teachers(data, 1, preset, n, sys.argv[1])
    student = train_student(data, teachers, 1, preset, n, sys.argv[1])
    if processes().is_main_process: print('SCORES', sum(teacher.record['best_score'] for teacher in teachers.values()) / len(teachers), student.record['best_score'])
'''

@pytest.mark.slow
def test_two_processes_of_half_the_batch_end_within_the_spread_of_one(tmp_path):
    "With batch normalisation of the own share: other weights, as good ones. F1@1 on `val` of the teachers, and of the student, over five replicates."
    (tmp_path/'program.py').write_text(REPLICATES)
    found = {}
    for processes in 1, 2:
        code, out, err = ended(start(tmp_path/'program.py', processes, tmp_path/f'store {processes}'), timeout=None)
        assert code == 0, err[-2000:]
        found[processes] = list(zip(*[map(float, line.split()[1:]) for line in out.splitlines() if line.startswith('SCORES')]))
    for who, one, two in zip(('teachers', 'student'), found[1], found[2]):
        print(f'{who}: {statistics.mean(one):.4f} ± {statistics.stdev(one):.4f} by one process, {statistics.mean(two):.4f} ± {statistics.stdev(two):.4f} by two (mean and standard deviation of {len(one)})')
        assert len(one) == len(two) == 5 and min(one) <= statistics.mean(two) <= max(one)

def replicate_by_two(store):
    "Teachers, kept embeddings and student, by `accelerate launch`."
    return subprocess.Popen([sys.executable, *ACCELERATE, '-m', 'mtss.launch', '--preset', 'smoke'], env=os.environ | dict(MTSS_STORE=str(store), OMP_NUM_THREADS='1'), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='finds the processes of a launcher in /proc')
@pytest.mark.parametrize('trained, killed', [(0, 0), (5, -1)], ids=['a teacher, the first process', 'the student, the other process'])
def test_a_killed_process_ends_a_replicate_and_it_goes_on(trained, killed, tmp_path):
    "While the first teacher is trained, or while the student is."
    def ready(store): return list((store/'runs').glob('*/model.safetensors'))
    def models(store): return {path.parent.name: load_tensors(path)[0] for path in (store/'runs').glob('*/model.safetensors')}
    code, _, err = ended(replicate_by_two(tmp_path/'whole'))
    assert code == 0, err[-2000:]
    running, store, begun = replicate_by_two(tmp_path/'killed'), tmp_path/'killed', time.monotonic()
    while len(ready(store)) < trained or not any(not (one.parent/'model.safetensors').exists() for one in store.glob('runs/*/checkpoint.safetensors')):
        assert running.poll() is None, running.communicate()[1][-2000:]
        assert time.monotonic() < begun + 300
        time.sleep(.005)
    os.kill(int(Path(f'/proc/{running.pid}/task/{running.pid}/children').read_text().split()[killed]), signal.SIGKILL)
    code, _, err = ended(running)
    assert code != 0 and 'SIGKILL' in err and len(ready(store)) < 6
    code, out, err = ended(replicate_by_two(store))
    assert code == 0, err[-2000:]
    assert 'resumed at step' in out
    whole, again = models(tmp_path/'whole'), models(store)
    assert len(whole) == 6 and whole.keys() == again.keys()
    for run, tensors in whole.items():
        for name, tensor in tensors.items(): assert torch.equal(again[run][name], tensor), (run, name)
