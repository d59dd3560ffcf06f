#!/usr/bin/env python3
"""Writes the small PyTorch checkpoints that tests/golden_skills.rs reads. Needs nothing but Python.

The files have the byte layout of torch.save (stream form: before 1.6; zip form: 1.6 and later) for
{epoch, global_step, state_dict, optimizer} as SPiRL's trainer stores it: an OrderedDict with _metadata, the recurrent
decoder under both of its names with shared storages, integer batch counters, and optimiser moments in between.
"""
import collections, io, json, pickle, random, struct, sys, types, zipfile

random.seed(3)
S, A, NZ, ENC, H, W = 3, 2, 4, 5, 4, 4


class Storage:
    def __init__(self, kind, values):
        self.kind, self.values = kind, values

    def bytes(self):
        code = {"FloatStorage": "f", "LongStorage": "q"}[self.kind]
        return struct.pack("<%d%s" % (len(self.values), code), *self.values)


class Tensor:
    def __init__(self, shape, values=None, kind="FloatStorage", storage=None):
        self.shape = shape
        if values is None and storage is None:
            n = 1
            for size in shape:
                n *= size
            values = [struct.unpack("<f", struct.pack("<f", random.uniform(-0.5, 0.5)))[0] for _ in range(n)]
        self.storage = storage or Storage(kind, values)

    def alias(self):
        return Tensor(self.shape, storage=self.storage)

    def stride(self):
        out, step = [], 1
        for size in reversed(self.shape):
            out.append(step)
            step *= size
        return tuple(reversed(out))

    def __reduce_ex__(self, _):
        args = (self.storage, 0, tuple(self.shape), self.stride(), False, collections.OrderedDict())
        return sys.modules["torch._utils"]._rebuild_tensor_v2, args


def fake_torch():
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*args):
        raise NotImplementedError

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    sys.modules.update({"torch": torch, "torch._utils": utils})
    for name in ("FloatStorage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    return torch


TORCH = fake_torch()


class Pickler(pickle.Pickler):
    def __init__(self, file, zip_form):
        super().__init__(file, protocol=2)
        self.zip_form, self.keys, self.storages = zip_form, {}, {}

    def persistent_id(self, item):
        if not isinstance(item, Storage):
            return None
        key = self.keys.setdefault(id(item), str(len(self.keys) if self.zip_form else 94000000 + 16 * len(self.keys)))
        self.storages[key] = item
        head = ("storage", getattr(TORCH, item.kind), key, "cpu", len(item.values))
        return head if self.zip_form else head + (None,)


def save_stream(path, item):
    with open(path, "wb") as out:
        pickle.dump(0x1950A86A20F9469CFC6C, out, protocol=2)
        pickle.dump(1001, out, protocol=2)
        system = dict(protocol_version=1001, little_endian=True, type_sizes=dict(short=2, int=4, long=4))
        pickle.dump(system, out, protocol=2)
        pickler = Pickler(out, False)
        pickler.dump(item)
        keys = sorted(pickler.storages)
        pickle.dump(keys, out, protocol=2)
        for key in keys:
            storage = pickler.storages[key]
            out.write(struct.pack("<q", len(storage.values)) + storage.bytes())


def save_zip(path, item):
    buffer = io.BytesIO()
    pickler = Pickler(buffer, True)
    pickler.dump(item)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as out:
        out.writestr(zipfile.ZipInfo("archive/data.pkl"), buffer.getvalue())
        for key, storage in pickler.storages.items():
            out.writestr(zipfile.ZipInfo("archive/data/" + key), storage.bytes())
        out.writestr(zipfile.ZipInfo("archive/version"), "3\n")


def save_safetensors(path, tensors):
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = tensor.storage.bytes()
        kind = {"FloatStorage": "F32", "LongStorage": "I64"}[tensor.storage.kind]
        header[name] = dict(dtype=kind, shape=list(tensor.shape), data_offsets=[len(data), len(data) + len(raw)])
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + data)


def model():
    out = collections.OrderedDict()

    def block(prefix, inputs, outputs):
        for name, shape in [
            ("embed.weight", (H, inputs)), ("embed.bias", (H,)),
            ("lstm.0.weight_ih", (4 * H, H)), ("lstm.0.weight_hh", (4 * H, H)),
            ("lstm.0.bias_ih", (4 * H,)), ("lstm.0.bias_hh", (4 * H,)),
            ("output.weight", (outputs, H)), ("output.bias", (outputs,)),
        ]:
            out[prefix + name] = Tensor(shape)

    block("q.0.cell.", A, ENC)
    out["q.1.weight"], out["q.1.bias"] = Tensor((2 * NZ, ENC)), Tensor((2 * NZ,))
    block("decoder.cell.", A + NZ, A)
    for name in [name for name in out if name.startswith("decoder.cell.")]:
        out[name.replace("decoder.cell.", "decoder.lstm.cell.")] = out[name].alias()
    out["decoder_input_initalizer.val"] = Tensor((1, A))
    out["decoder_hidden_initalizer.val"] = Tensor((1, 2 * H))
    out["p.0.input.linear.weight"], out["p.0.input.linear.bias"] = Tensor((W, S)), Tensor((W,))
    out["p.0.pyramid-0.linear.weight"] = Tensor((W, W))
    for name in ("weight", "bias", "running_mean"):
        out["p.0.pyramid-0.norm." + name] = Tensor((W,))
    out["p.0.pyramid-0.norm.running_var"] = Tensor((W,), [0.5, 1.0, 1.5, 2.0])
    out["p.0.pyramid-0.norm.num_batches_tracked"] = Tensor((), [12], "LongStorage")
    out["p.0.head.linear.weight"], out["p.0.head.linear.bias"] = Tensor((2 * NZ, W)), Tensor((2 * NZ,))
    return out


class StateDict(collections.OrderedDict):
    """Pickles as an OrderedDict with a _metadata attribute, as torch's state dictionaries do."""

    def __reduce__(self):
        meta = {"_metadata": collections.OrderedDict([("", {"version": 1})])}
        return collections.OrderedDict, (), meta, None, iter(self.items())


weights = StateDict(model())
moments = {0: {"step": 12, "exp_avg": Tensor((3,)), "exp_avg_sq": Tensor((3,))}}
groups = [{"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "params": [0]}]
checkpoint = {
    "epoch": 3, "global_step": 1200, "state_dict": weights, "optimizer": {"state": moments, "param_groups": groups},
}
save_stream("tiny_stream.pth", checkpoint)
save_zip("tiny_zip.pth", checkpoint)
save_zip("tiny_zip_bare.pth", weights)
save_safetensors("tiny.safetensors", weights)
