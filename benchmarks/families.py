"""Which family an architecture is of, from when, and by whom: the one table behind the listing.

A row: the beginning of the name, as a regular expression; family; year of the first publication;
paper. The first row that fits a name wins. Year and paper stay empty where no paper describes it.
"""

import re

TABLE = """
test_ | Test | |
alexnet | AlexNet | 2012 | Krizhevsky, Sutskever and Hinton, NeurIPS 2012
vgg | VGG | 2014 | Simonyan and Zisserman, arXiv:1409.1556
googlenet | GoogLeNet | 2014 | Szegedy et al., arXiv:1409.4842
inception_resnet | Inception | 2016 | Szegedy et al., arXiv:1602.07261
inception_v4 | Inception | 2016 | Szegedy et al., arXiv:1602.07261
inception_v3 | Inception | 2015 | Szegedy et al., arXiv:1512.00567
inception_next | InceptionNeXt | 2023 | Yu et al., arXiv:2303.16900
(legacy_)?xception | Xception | 2016 | Chollet, arXiv:1610.02357

perceptron | Perceptron | 1958 | Rosenblatt, Psychological Review 65
mlp | MLP | 1986 | Rumelhart, Hinton and Williams, Nature 323
lenet5 | LeNet | 1998 | LeCun, Bottou, Bengio and Haffner, Proc. IEEE 86
cnn_small | Small CNN | |
wrn_|wide_resnet | Wide ResNet | 2016 | Zagoruyko and Komodakis, arXiv:1605.07146

(se|lamhalo|halo2)?botnet|eca_botnext | BoTNet | 2021 | Srinivas et al., arXiv:2101.11605
(se)?halo|eca_halonext | HaloNet | 2021 | Vaswani et al., arXiv:2103.12731
lambda | LambdaNet | 2021 | Bello, arXiv:2102.08602

resnet\\d+_clip|resnet\\d+x\\d+_clip | CLIP ResNet | 2021 | Radford et al., arXiv:2103.00020
resnetrs | ResNet-RS | 2021 | Bello et al., arXiv:2103.07579
resnetv2_.*_bit | BiT | 2019 | Kolesnikov et al., arXiv:1912.11370
resnetv2 | ResNet v2 | 2016 | He, Zhang, Ren and Sun, arXiv:1603.05027
resnetblur | ResNet | 2015 | He et al., arXiv:1512.03385; blur pooling: arXiv:1904.11486
resnet | ResNet | 2015 | He, Zhang, Ren and Sun, arXiv:1512.03385
resnext | ResNeXt | 2016 | Xie et al., arXiv:1611.05431
(legacy_)?se(resne|net154)|senet154 | SENet | 2017 | Hu, Shen and Sun, arXiv:1709.01507
skresne | SKNet | 2019 | Li et al., arXiv:1903.06586
eca_?(resne|nfnet|vovnet) | ECA-Net | 2019 | Wang et al., arXiv:1910.03151
gcresne | GCNet | 2019 | Cao et al., arXiv:1904.11492
bat_resnext | BAT | |
nf_ | NF-ResNet | 2021 | Brock, De and Smith, arXiv:2101.08692
(dm_)?nfnet | NFNet | 2021 | Brock, De, Smith and Simonyan, arXiv:2102.06171
res2ne | Res2Net | 2019 | Gao et al., arXiv:1904.01169
resnest | ResNeSt | 2020 | Zhang et al., arXiv:2004.08955
tresnet | TResNet | 2020 | Ridnik et al., arXiv:2003.13630
densenet | DenseNet | 2016 | Huang, Liu, van der Maaten and Weinberger, arXiv:1608.06993
rdnet | RDNet | 2024 | Kim, Heo and Han, arXiv:2403.19588
dla | DLA | 2017 | Yu, Wang, Shelhamer and Darrell, arXiv:1707.06484
dpn | DPN | 2017 | Chen et al., arXiv:1707.01629
hrnet | HRNet | 2019 | Wang et al., arXiv:1908.07919
selecsls | SelecSLS | 2019 | Mehta et al., arXiv:1907.00837
(ese_)?vovnet | VoVNet | 2019 | Lee et al., arXiv:1904.09730
csp(res|dark)|cs3 | CSPNet | 2019 | Wang et al., arXiv:1911.11929
(se)?darknet | Darknet | 2018 | Redmon and Farhadi, arXiv:1804.02767
cspnext | CSPNeXt | 2022 | Lyu et al., arXiv:2212.07784

squeezenet | SqueezeNet | 2016 | Iandola et al., arXiv:1602.07360
shufflenet_v2 | ShuffleNet | 2018 | Ma, Zhang, Zheng and Sun, arXiv:1807.11164
mobilenetv1 | MobileNet | 2017 | Howard et al., arXiv:1704.04861
mobilenet_?v2 | MobileNet | 2018 | Sandler et al., arXiv:1801.04381
(tf_)?mobilenet_?v3 | MobileNet | 2019 | Howard et al., arXiv:1905.02244
mobilenetv4 | MobileNet | 2024 | Qin et al., arXiv:2404.10518
mobilenet_edgetpu|mobilenetv5 | MobileNet | |
(se)?mnasnet | MnasNet | 2018 | Tan et al., arXiv:1807.11626
spnasnet | Single-Path NAS | 2019 | Stamoulis et al., arXiv:1904.02877
fbnetc | FBNet | 2018 | Wu et al., arXiv:1812.03443
fbnetv3 | FBNet | 2020 | Dai et al., arXiv:2006.02049
hardcorenas | HardCoRe-NAS | 2021 | Nayman et al., arXiv:2102.11646
(tf_)?mixnet | MixNet | 2019 | Tan and Le, arXiv:1907.09595
tinynet | TinyNet | 2020 | Han et al., arXiv:2010.14819
nasnet | NASNet | 2017 | Zoph, Vasudevan, Shlens and Le, arXiv:1707.07012
pnasnet | NASNet | 2017 | Liu et al., arXiv:1712.00559
rexnet | ReXNet | 2020 | Han et al., arXiv:2007.00992
lcnetv2 | PP-LCNet | |
lcnet | PP-LCNet | 2021 | Cui et al., arXiv:2109.15099
hgnet | PP-HGNet | |
ghostnetv2 | GhostNet | 2022 | Tang et al., arXiv:2211.12905
ghostnetv3 | GhostNet | 2024 | Liu et al., arXiv:2404.11202
ghostnet | GhostNet | 2019 | Han et al., arXiv:1911.11907
repghost | RepGhost | 2022 | Chen et al., arXiv:2211.06088
mobileone | MobileOne | 2022 | Vasu et al., arXiv:2206.04040
repvgg | RepVGG | 2021 | Ding et al., arXiv:2101.03697
gernet | GENet | 2020 | Lin et al., arXiv:2006.14090
starnet | StarNet | 2024 | Ma et al., arXiv:2403.19967
fasternet | FasterNet | 2023 | Chen et al., arXiv:2303.03667
repvit | RepViT | 2023 | Wang et al., arXiv:2307.09283

efficientnet_l2|tf_efficientnet_l2 | EfficientNet | 2019 | Xie, Luong, Hovy and Le, arXiv:1911.04252
(gc_|tf_)?efficientnet_?v2 | EfficientNet v2 | 2021 | Tan and Le, arXiv:2104.00298
(tf_)?efficientnet_cc | CondConv | 2019 | Yang et al., arXiv:1904.04971
efficientnet_[xh]_ | EfficientNet-X | 2021 | Li et al., arXiv:2102.05610
(tf_)?efficientnet_(el|em|es|lite) | EfficientNet | |
(tf_)?efficientnet | EfficientNet | 2019 | Tan and Le, arXiv:1905.11946
regnetz | RegNet | 2021 | Dollár, Singh and Girshick, arXiv:2103.06877
regnet | RegNet | 2020 | Radosavovic et al., arXiv:2003.13678
convnextv2 | ConvNeXt | 2023 | Woo et al., arXiv:2301.00808
convnext | ConvNeXt | 2022 | Liu et al., arXiv:2201.03545
convmixer | ConvMixer | 2022 | Trockman and Kolter, arXiv:2201.09792
convformer|caformer | MetaFormer | 2022 | Yu et al., arXiv:2210.13452
poolformer | PoolFormer | 2021 | Yu et al., arXiv:2111.11418
focalnet | FocalNet | 2022 | Yang et al., arXiv:2203.11926
mambaout | MambaOut | 2024 | Yu and Wang, arXiv:2405.07992
g?mixer_ | MLP-Mixer | 2021 | Tolstikhin et al., arXiv:2105.01601
gmlp | gMLP | 2021 | Liu, Dai, So and Le, arXiv:2105.08050
resmlp | ResMLP | 2021 | Touvron et al., arXiv:2105.03404
sequencer | Sequencer | 2022 | Tatsunami and Taki, arXiv:2205.01972

vit_.*_r\\d+_s|vit_tiny_r_|vit_.*_resnet | ViT | 2020 | Dosovitskiy et al., arXiv:2010.11929
vit_.*dinov2 | DINO | 2023 | Oquab et al., arXiv:2304.07193
vit_.*dinov3 | DINO | 2025 | Siméoni et al., arXiv:2508.10104
vit_.*siglip | SigLIP | 2023 | Zhai et al., arXiv:2303.15343
vit_.*radio | RADIO | 2023 | Ranzinger et al., arXiv:2312.06709
vit_.*clip | CLIP | 2021 | Radford et al., arXiv:2103.00020
vit_base_mci | CLIP | 2023 | Vasu et al., arXiv:2311.17049
vit_pe_ | Perception Encoder | 2025 | Bolya et al., arXiv:2504.13181
vit_.*_rope_ | RoPE-ViT | 2024 | Heo et al., arXiv:2403.13298
vit_.*sapiens2 | Sapiens | 2026 | arXiv:2604.21681
vit_.*lingbot | LingBot | 2026 | arXiv:2607.05247
vit_.*tipsv2|vit_intern | ViT | |
vit_s?relpos | ViT | 2020 | Dosovitskiy et al., arXiv:2010.11929
vit_.*_reg\\d | ViT | 2023 | Darcet, Oquab, Mairal and Bojanowski, arXiv:2309.16588
vit_so150m | ViT | 2023 | Alabdulmohsin et al., arXiv:2305.13035
vit_ | ViT | 2020 | Dosovitskiy et al., arXiv:2010.11929
naflexvit.*siglip | SigLIP | 2025 | Tschannen et al., arXiv:2502.14786
naflexvit.*radio | RADIO | 2023 | Ranzinger et al., arXiv:2312.06709
naflexvit | NaFlexViT | 2023 | Dehghani et al., arXiv:2307.06304
flexivit | FlexiViT | 2022 | Beyer et al., arXiv:2212.08013
samvit | SAM | 2023 | Kirillov et al., arXiv:2304.02643
sam2_hiera|hieradet | SAM | 2024 | Ravi et al., arXiv:2408.00714
aimv2 | AIM | 2024 | Fini et al., arXiv:2411.14402
deit3 | DeiT | 2022 | Touvron, Cord and Jégou, arXiv:2204.07118
deit | DeiT | 2020 | Touvron et al., arXiv:2012.12877
beit3 | BEiT | 2022 | Wang et al., arXiv:2208.10442
beitv2 | BEiT | 2022 | Peng et al., arXiv:2208.06366
beit | BEiT | 2021 | Bao, Dong, Piao and Wei, arXiv:2106.08254
eva02 | EVA | 2023 | Fang et al., arXiv:2303.11331
eva | EVA | 2022 | Fang et al., arXiv:2211.07636
cait | CaiT | 2021 | Touvron et al., arXiv:2103.17239
coatne | CoAtNet | 2021 | Dai, Liu, Le and Tan, arXiv:2106.04803
coat | CoaT | 2021 | Xu, Xu, Chang and Tu, arXiv:2104.06399
convit | ConViT | 2021 | d'Ascoli et al., arXiv:2103.10697
crossvit | CrossViT | 2021 | Chen, Fan and Panda, arXiv:2103.14899
davit | DaViT | 2022 | Ding et al., arXiv:2204.03645
edgenext | EdgeNeXt | 2022 | Maaz et al., arXiv:2206.10589
efficientformerv2 | EfficientFormer | 2022 | Li et al., arXiv:2212.08059
efficientformer | EfficientFormer | 2022 | Li et al., arXiv:2206.01191
efficientvit_[bl] | EfficientViT | 2022 | Cai et al., arXiv:2205.14756
efficientvit_m | EfficientViT | 2023 | Liu et al., arXiv:2305.07027
efficientvim | EfficientViM | 2024 | Lee, Choi and Kim, arXiv:2411.15241
fastvit_mci | FastViT | 2023 | Vasu et al., arXiv:2311.17049
fastvit | FastViT | 2023 | Vasu et al., arXiv:2303.14189
gcvit | GCViT | 2022 | Hatamizadeh et al., arXiv:2206.09959
hiera_.*abswin | Hiera | 2023 | Bolya et al., arXiv:2311.05613
hiera | Hiera | 2023 | Ryali et al., arXiv:2306.00989
iformer | iFormer | 2025 | Zheng, arXiv:2501.15369
levit | LeViT | 2021 | Graham et al., arXiv:2104.01136
lowformer | LowFormer | 2024 | Nottebaum et al., arXiv:2409.03460
maxx | MaxViT | |
maxvit | MaxViT | 2022 | Tu et al., arXiv:2204.01697
mobilevitv2 | MobileViT | 2022 | Mehta and Rastegari, arXiv:2206.02680
mobilevit | MobileViT | 2021 | Mehta and Rastegari, arXiv:2110.02178
mvitv2 | MViT | 2021 | Li et al., arXiv:2112.01526
nest | NesT | 2021 | Zhang et al., arXiv:2105.12723
nextvit | Next-ViT | 2022 | Li et al., arXiv:2207.05501
pit | PiT | 2021 | Heo et al., arXiv:2103.16302
pvt_v2 | PVT | 2021 | Wang et al., arXiv:2106.13797
shvit | SHViT | 2024 | Yun and Ro, arXiv:2401.16456
swiftformer | SwiftFormer | 2023 | Shaker et al., arXiv:2303.15446
swin_s3 | Swin | 2021 | Chen et al., arXiv:2111.14725
swin_?v2 | Swin | 2021 | Liu et al., arXiv:2111.09883
swin | Swin | 2021 | Liu et al., arXiv:2103.14030
tiny_vit | TinyViT | 2022 | Wu et al., arXiv:2207.10666
tnt | TNT | 2021 | Han et al., arXiv:2103.00112
twins | Twins | 2021 | Chu et al., arXiv:2104.13840
visformer | Visformer | 2021 | Chen et al., arXiv:2104.12533
vitamin | ViTamin | 2024 | Chen et al., arXiv:2404.02132
volo | VOLO | 2021 | Yuan et al., arXiv:2106.13112
xcit | XCiT | 2021 | El-Nouby et al., arXiv:2106.09681
cpubone | CPUBone | 2026 | arXiv:2603.26425
csatv2 | CSATv2 | |
deepseek_vit | DeepSeek ViT | |
gemma4_vit | Gemma ViT | |
qwen3_vit | Qwen ViT | |
"""

ROWS = [
    tuple(cell.strip() for cell in re.split(r"(?<=\s)\|(?=\s|$)", line))
    for line in TABLE.strip().splitlines()
    if line
]


def family(name: str) -> tuple[str, int | None, str]:
    """Family, year and paper of an architecture, by its name without a source."""
    for pattern, of, year, paper in ROWS:
        if re.match(pattern, name):
            return of, int(year) if year else None, paper
    raise KeyError(f"{name}: benchmarks/families.py has no row for it")
