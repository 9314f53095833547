"""
Who is this? The AT&T faces, from pictures to names
===================================================

Learn from some people, choose a threshold on others, and name people whom the net has never seen.
Without the AT&T faces it goes on with drawn ones.
"""

import argparse
import sys

import siamlearn as sl

PROTOCOLS = {  # in which nobody who is tested was trained on
    "notebook": sl.protocols.notebook,
    "disjoint": sl.protocols.repeated_disjoint,
    "bob": sl.protocols.bob_atnt,
}

parser = argparse.ArgumentParser(description="Who is this? The AT&T faces, from pictures to names.")
parser.add_argument("--data", help="folder of the AT&T faces; SIAMLEARN_DATA if left out")
parser.add_argument("--download", action="store_true", help="get the faces if they are not here")
parser.add_argument("--protocol", choices=PROTOCOLS, default="notebook", help="who is tested")
parser.add_argument("--epochs", type=int, help="passes over the pictures; 300 steps if left out")
parser.add_argument("--batch-size", "--batch_size", type=int, default=64, help="pictures a step")
parser.add_argument("--device", help="cpu or cuda; a GPU if there is one")
parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same run")
parser.add_argument("--weights", help="folder of a saved net to start from")
parser.add_argument("--verbose", type=int, choices=range(4), default=0, help="3 says everything")
parser.add_argument("--save-dir", "--save_dir", default="runs", help="runs1 if there is runs, ...")
parser.add_argument("--resume", action="store_true", help="go on with the run in --save-dir")
parser.add_argument("--save-plots", "--save_plots", action="store_true", help="plots by epoch, too")
args = parser.parse_args()

# %%
# The pictures
# ------------
# 40 people, 10 pictures of each. Every picture is checked to be the one that was published.

root = args.data or sl.find_att_faces()
if root is None and not args.download:
    sys.stdout.write("The AT&T faces are not here (--data, --download): using drawn faces.\n")
    faces = sl.DrawnFaces()
else:
    faces = sl.ATTFaces(root, download=args.download)

# %%
# Three groups of people
# ----------------------
# The net learns from the first, the threshold is chosen on the second, and what is reported was
# measured on the third: nobody is in two of them.

split = next(PROTOCOLS[args.protocol](faces))
train, calibration = split.train.split_identities(held_out=0.25, seed=args.seed)
tested = split.probes

# %%
# Training
# --------
# The net is sized to the pictures; loss, augmentation and schedule are the library's defaults.

folder = args.save_dir if args.resume else sl.new_run_folder(args.save_dir)
parts = sl.split_section(faces, train=train, calibration=calibration, tested=tested)
watch: list[sl.Callback] = [sl.Summary(args.verbose), sl.Evaluate(calibration, every=10)]
if args.save_plots:
    watch.append(sl.Plots(calibration, f"{folder}/plots", every=10))
run = sl.fit(
    train,
    validation=calibration,
    epochs=args.epochs,
    identities=max(2, args.batch_size // 4),
    device=args.device,
    seed=args.seed,
    weights=args.weights,
    folder=folder,
    resume=args.resume,
    config={"split": parts, "arguments": vars(args)},
    callbacks=[*watch, sl.Progress()],
)

# %%
# How good is it?
# ---------------
# The threshold is to let one pair of strangers in a hundred pass. Every number has an interval, and
# pixels, PCA and others stand beside the net: what does not beat them has learned nothing.

point = sl.OperatingPoint.fit(sl.embed(run.net, calibration), fmr=0.01)
found = sl.embed(run.net, tested)
enrolled = None if split.gallery is None else sl.embed(run.net, split.gallery)
report = sl.evaluate(found, point, gallery=enrolled, train=train, protocol=split.name)
sys.stdout.write(f"\n{report}\n")
report.save(run.folder / "report.json")
sl.report.html(report, run.folder / "report.html")
sl.plots.save(sl.plots.overview(report, found, run.log), run.folder / "overview.png")

# %%
# Who is this?
# ------------
# Of the tested people, whom the net has not seen, some are enrolled; the others are strangers.

staff, strangers = tested.split_identities(held_out=0.3, seed=args.seed)
known = split.gallery.only(staff.people) if split.gallery else staff.split_gallery(pictures=5)[0]
gallery = sl.Gallery(run.net, point).enroll(known)
gallery.save(run.folder / "gallery")

asked = tested.subset([i for i, name in enumerate(tested.names) if name not in known.names])
answers = gallery.identify(asked)
truth = [asked.identities[label] for label in asked.labels]
expected = [name if name in known.people else None for name in truth]
right = sum(match.name == name for match, name in zip(answers, expected, strict=True))
sys.stdout.write(
    f"\n{len(staff.people)} people enrolled, {len(strangers.people)} strangers: "
    f"{right} of {len(asked)} pictures answered rightly\n"
)
shown = [truth.index(name) for name in asked.people]  # one picture of each person
figure = sl.plots.matches(asked.subset(shown), [answers[i] for i in shown], known)
sl.plots.save(figure, run.folder / "matches.png")
verdict = gallery.verify(asked.pixels[0], known.pixels[0])
sys.stdout.write(f"{verdict}\n\n{run}\n")
