"""Model files made to do harm, by what changes a good one: links, bombs, lies about itself.

Each function takes an open file and its folder. A reader needs no Keras to refuse `CHANGES`; those
of `WEIGHTS` contradict the network that they claim to be.
"""

import json
import pickle

import h5py
import numpy as np

KERNEL = "model_weights/stem_conv/stem_conv/kernel"
LAYER = "model_weights/stem_conv"


def replace_kernel(file, **how):
    shape, dtype = file[KERNEL].shape, file[KERNEL].dtype
    del file[KERNEL]
    return file.create_dataset(KERNEL, shape=how.pop("shape", shape), dtype=dtype, **how)


def set_facts(file, **changes):
    group = file["cspine"]
    facts = json.loads(group.attrs["facts"]) | changes
    group.attrs["facts"] = np.bytes_(json.dumps(facts))


def soft_link(file, _):
    del file[KERNEL]
    file[KERNEL] = h5py.SoftLink("/model_weights/logit/logit/kernel")


def external_link(file, folder):
    del file[KERNEL]
    file[KERNEL] = h5py.ExternalLink(str(folder / "secret.h5"), "/secret")


def external_group(file, folder):
    del file[LAYER]
    file[LAYER] = h5py.ExternalLink(str(folder / "secret.h5"), "/")


def dangling_link(file, _):
    file["cspine/arrays/extra"] = h5py.SoftLink("/nowhere")


def hard_link_cycle(file, _):
    file["model_weights/loop"] = file["model_weights"]


def hard_link_to_root(file, _):
    file["cspine/arrays/loop"] = file["/"]


def hard_link_alias(file, _):
    file["cspine/arrays/alias"] = file[KERNEL]


def external_storage(file, folder):
    shape, dtype = file[KERNEL].shape, file[KERNEL].dtype
    del file[KERNEL]
    secret = str(folder / "secret.txt").encode()
    file.create_dataset(KERNEL, shape, dtype, external=[(secret, 0, h5py.h5f.UNLIMITED)])


def virtual_data_set(file, folder):
    shape, dtype = file[KERNEL].shape, file[KERNEL].dtype
    layout = h5py.VirtualLayout(shape=shape, dtype=dtype)
    layout[...] = h5py.VirtualSource(str(folder / "secret.h5"), "secret", shape=shape)
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def compression_bomb(file, _):
    replace_kernel(file, shape=(2**14, 2**14), compression="gzip", fillvalue=0)


def shuffle_filter(file, _):
    replace_kernel(file, chunks=True, shuffle=True)


def checksum_filter(file, _):
    replace_kernel(file, chunks=True, fletcher32=True)


def chunked(file, _):
    replace_kernel(file, chunks=True)


def claimed_bytes(file, _):
    replace_kernel(file, shape=(2**20, 2**20))


def overflowing_shape(file, _):
    replace_kernel(file, shape=(2**31, 2**31, 4))


def resizable(file, _):
    replace_kernel(file, chunks=(1, 1, 1, 1), maxshape=(None, None, None, None))


def too_many_dimensions(file, _):
    file["cspine/arrays"].create_dataset("deep", data=np.zeros((1,) * 12, np.float32))


def object_references(file, _):
    file["cspine/arrays"].create_dataset("refs", data=[file.ref], dtype=h5py.ref_dtype)


def reference_attribute(file, _):
    file[LAYER].attrs.create("ref", file.ref, dtype=h5py.ref_dtype)


def pickled_strings(file, _):
    evil = pickle.dumps(print)
    file["cspine/arrays"].create_dataset("code", data=np.void(evil))


def ragged_strings(file, _):
    file["cspine/arrays"].create_dataset("text", data=["a", "bb"], dtype=h5py.string_dtype())


def compound_type(file, _):
    file["cspine/arrays"].create_dataset("mix", data=np.zeros(2, [("a", "f4"), ("b", "i8")]))


def named_type(file, _):
    file["model_weights/kind"] = np.dtype("f4")


def deep_groups(file, _):
    file.create_group("/".join(["g"] * 60))


def many_objects(file, _):
    group = file.create_group("many")
    for index in range(21_000):
        group.create_group(str(index))


def huge_attribute(file, _):
    with_large = file.create_group("wide", track_order=True)
    with_large.attrs.create("big", np.zeros(2**18, "f8"))


def many_attributes(file, _):
    for index in range(600):
        file["cspine"].attrs[f"a{index}"] = index


def no_group(file, _):
    del file["cspine"]


def no_facts(file, _):
    del file["cspine"].attrs["facts"]


def ragged_facts(file, _):
    file["cspine"].attrs["facts"] = "text of variable length"


def facts_as_numbers(file, _):
    file["cspine"].attrs["facts"] = np.arange(9)


def broken_facts(file, _):
    file["cspine"].attrs["facts"] = np.bytes_('{"architecture": ')


def nested_facts(file, _):
    file["cspine"].attrs["facts"] = np.bytes_("[" * 30_000)


def infinite_facts(file, _):
    file["cspine"].attrs["facts"] = np.bytes_('{"decision": Infinity}')


def listed_facts(file, _):
    file["cspine"].attrs["facts"] = np.bytes_("[1, 2]")


def unlisted_architecture(file, _):
    set_facts(file, architecture="os.system")


def listed_architecture(file, _):
    set_facts(file, architecture=["cnn"])


def other_architecture(file, _):
    set_facts(file, architecture="resnet50v2")


def huge_image(file, _):
    set_facts(file, image_size=10**9)


def boolean_image(file, _):
    set_facts(file, image_size=True)


def unknown_view(file, _):
    set_facts(file, view="../../etc/passwd")


def unknown_fact(file, _):
    set_facts(file, hook="import os")


def later_schema(file, _):
    set_facts(file, schema_version=99)


def wrong_shape(file, _):
    replace_kernel(file, shape=(1, 1, 1, 1), data=np.zeros((1, 1, 1, 1), "f4"))


def missing_layer(file, _):
    del file[LAYER]


def layer_is_data(file, _):
    del file[LAYER]
    file.create_dataset(LAYER, data=np.zeros(3, "f4"))


def missing_weights(file, _):
    del file["model_weights"]


def extra_weight(file, _):
    file[LAYER].create_dataset("lambda", data=np.zeros(3, "f4"))


def nan_weights(file, _):
    file[KERNEL][...] = np.nan


def map_head_missing(file, _):
    del file["cspine/map_head"]


def map_head_of_other_shape(file, _):
    del file["cspine/map_head/kernel"]
    file["cspine/map_head"].create_dataset("kernel", data=np.zeros((9, 9), "f4"))


def array_with_path_name(file, _):
    file["cspine/arrays"].create_dataset("..", data=np.zeros(3))


def array_too_large(file, _):
    file["cspine/arrays"].create_dataset("large", data=np.zeros((1100, 1000)))


def many_arrays(file, _):
    for index in range(40):
        file["cspine/arrays"].create_dataset(f"a{index}", data=np.zeros(1))


def group_among_arrays(file, _):
    file["cspine/arrays"].create_group("inner")


CHANGES = [
    soft_link,
    external_link,
    external_group,
    dangling_link,
    hard_link_cycle,
    hard_link_to_root,
    hard_link_alias,
    external_storage,
    virtual_data_set,
    compression_bomb,
    shuffle_filter,
    checksum_filter,
    chunked,
    claimed_bytes,
    overflowing_shape,
    resizable,
    too_many_dimensions,
    object_references,
    reference_attribute,
    pickled_strings,
    ragged_strings,
    compound_type,
    named_type,
    deep_groups,
    many_objects,
    huge_attribute,
    many_attributes,
    no_group,
    no_facts,
    ragged_facts,
    facts_as_numbers,
    broken_facts,
    nested_facts,
    infinite_facts,
    listed_facts,
    unlisted_architecture,
    listed_architecture,
    huge_image,
    boolean_image,
    unknown_view,
    unknown_fact,
    later_schema,
    array_with_path_name,
    array_too_large,
    many_arrays,
    group_among_arrays,
]
WEIGHTS = [
    other_architecture,
    wrong_shape,
    missing_layer,
    layer_is_data,
    missing_weights,
    extra_weight,
    nan_weights,
    map_head_missing,
    map_head_of_other_shape,
]
