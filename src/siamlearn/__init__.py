"""Metric learning: from a folder of pictures to "who is this, and how sure are you?".

The names stand in the order of the line that a picture takes: data, nets, losses, training,
embeddings, evaluation, the gallery that answers.
"""

from siamlearn import functional, inspection, plots, report, testing
from siamlearn.answers import Match, Verdict
from siamlearn.auditing import Audit, Finding, Severity, audit
from siamlearn.baselines import pca, pca_lda, pixels, untrained
from siamlearn.calibration import Calibration
from siamlearn.data import protocols
from siamlearn.data.att_faces import ATTFaces, find_att_faces
from siamlearn.data.drawn import DrawnFaces
from siamlearn.data.image_set import ImageSet
from siamlearn.data.images import from_arrays, from_csv, from_folder, from_torchvision, read_image
from siamlearn.data.pair_lists import PairList, read_pairs
from siamlearn.data.pairing import HardNegatives, ListedPairs, RandomNegatives, RandomPositives
from siamlearn.data.samplers import BalancedSampler, PairSampler, TripletSampler
from siamlearn.data.transforms import Augment
from siamlearn.embeddings import Embeddings, embed
from siamlearn.estimates import Estimate
from siamlearn.evaluation import (
    Difference,
    FoldReport,
    Report,
    differences,
    evaluate,
    evaluate_folds,
    fold_differences,
)
from siamlearn.fitting import fit
from siamlearn.functional.distances import cosine, euclidean, signal_to_noise, squared_euclidean
from siamlearn.functional.pairings import (
    adjacent_pairs,
    adjacent_triplets,
    all_pairs,
    anchor_swap,
    two_towers,
)
from siamlearn.gallery import Gallery
from siamlearn.nn.losses import (
    AdaFaceLoss,
    AngularLoss,
    ArcFaceLoss,
    BatchHardLoss,
    CentreLoss,
    CircleLoss,
    ClassificationLoss,
    CombinedMarginLoss,
    ContrastiveLoss,
    CosFaceLoss,
    CurricularFaceLoss,
    DecoupledLoss,
    EmbeddingNorm,
    FastAPLoss,
    GeneralisedLiftedLoss,
    HistogramLoss,
    InfoNCELoss,
    IntraPairVarianceLoss,
    LiftedStructureLoss,
    MagFaceLoss,
    MarginLoss,
    MultiSimilarityLoss,
    NCALoss,
    NormalisedSoftmaxLoss,
    NPairsLoss,
    PairLoss,
    PNPLoss,
    ProxyAnchorLoss,
    ProxyNCALoss,
    RankedListLoss,
    RegularFace,
    Regulariser,
    SemiHardTripletLoss,
    SigmoidLoss,
    SmoothAPLoss,
    SoftTripleLoss,
    SoftTripletLoss,
    SphereFaceLoss,
    SubCentreArcFaceLoss,
    SumLoss,
    SupConLoss,
    ThresholdConsistentLoss,
    TripletLoss,
    TupletMarginLoss,
    ZeroMean,
)
from siamlearn.nn.nets import ConvBlock, EmbeddingNet, NetConfig
from siamlearn.nn.references import Memory, Proxies
from siamlearn.normalisation import as_norm, s_norm, t_norm, z_norm
from siamlearn.operating import OperatingPoint
from siamlearn.train.callbacks import Callback, EarlyStopping
from siamlearn.train.checkpoint import CheckpointError
from siamlearn.train.comparing import RunComparison, compare_runs
from siamlearn.train.doctor import Doctor
from siamlearn.train.ending import Ending
from siamlearn.train.evaluating import Evaluate, Plots
from siamlearn.train.finding_rate import RangeTest, find_learning_rate
from siamlearn.train.keeping import Checkpoint
from siamlearn.train.limits import TimeLimit
from siamlearn.train.loading import Run, load_run
from siamlearn.train.loggers import MLflow, TensorBoard, WeightsAndBiases
from siamlearn.train.monitoring import LearningRates, PeakMemory, Throughput
from siamlearn.train.reporting import LogCSV, LogLines, Progress, Summary
from siamlearn.train.runs import (
    new_run_folder,
    read_config,
    rebuilt_split,
    split_section,
    write_config,
)
from siamlearn.train.trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "ATTFaces",
    "AdaFaceLoss",
    "AngularLoss",
    "ArcFaceLoss",
    "Audit",
    "Augment",
    "BalancedSampler",
    "BatchHardLoss",
    "Calibration",
    "Callback",
    "CentreLoss",
    "Checkpoint",
    "CheckpointError",
    "CircleLoss",
    "ClassificationLoss",
    "CombinedMarginLoss",
    "ContrastiveLoss",
    "ConvBlock",
    "CosFaceLoss",
    "CurricularFaceLoss",
    "DecoupledLoss",
    "Difference",
    "Doctor",
    "DrawnFaces",
    "EarlyStopping",
    "EmbeddingNet",
    "EmbeddingNorm",
    "Embeddings",
    "Ending",
    "Estimate",
    "Evaluate",
    "FastAPLoss",
    "Finding",
    "FoldReport",
    "Gallery",
    "GeneralisedLiftedLoss",
    "HardNegatives",
    "HistogramLoss",
    "ImageSet",
    "InfoNCELoss",
    "IntraPairVarianceLoss",
    "LearningRates",
    "LiftedStructureLoss",
    "ListedPairs",
    "LogCSV",
    "LogLines",
    "MLflow",
    "MagFaceLoss",
    "MarginLoss",
    "Match",
    "Memory",
    "MultiSimilarityLoss",
    "NCALoss",
    "NPairsLoss",
    "NetConfig",
    "NormalisedSoftmaxLoss",
    "OperatingPoint",
    "PNPLoss",
    "PairList",
    "PairLoss",
    "PairSampler",
    "PeakMemory",
    "Plots",
    "Progress",
    "Proxies",
    "ProxyAnchorLoss",
    "ProxyNCALoss",
    "RandomNegatives",
    "RandomPositives",
    "RangeTest",
    "RankedListLoss",
    "RegularFace",
    "Regulariser",
    "Report",
    "Run",
    "RunComparison",
    "SemiHardTripletLoss",
    "Severity",
    "SigmoidLoss",
    "SmoothAPLoss",
    "SoftTripleLoss",
    "SoftTripletLoss",
    "SphereFaceLoss",
    "SubCentreArcFaceLoss",
    "SumLoss",
    "Summary",
    "SupConLoss",
    "TensorBoard",
    "ThresholdConsistentLoss",
    "Throughput",
    "TimeLimit",
    "Trainer",
    "TripletLoss",
    "TripletSampler",
    "TupletMarginLoss",
    "Verdict",
    "WeightsAndBiases",
    "ZeroMean",
    "__version__",
    "adjacent_pairs",
    "adjacent_triplets",
    "all_pairs",
    "anchor_swap",
    "as_norm",
    "audit",
    "compare_runs",
    "cosine",
    "differences",
    "embed",
    "euclidean",
    "evaluate",
    "evaluate_folds",
    "find_att_faces",
    "find_learning_rate",
    "fit",
    "fold_differences",
    "from_arrays",
    "from_csv",
    "from_folder",
    "from_torchvision",
    "functional",
    "inspection",
    "load_run",
    "new_run_folder",
    "pca",
    "pca_lda",
    "pixels",
    "plots",
    "protocols",
    "read_config",
    "read_image",
    "read_pairs",
    "rebuilt_split",
    "report",
    "s_norm",
    "signal_to_noise",
    "split_section",
    "squared_euclidean",
    "t_norm",
    "testing",
    "two_towers",
    "untrained",
    "write_config",
    "z_norm",
]
