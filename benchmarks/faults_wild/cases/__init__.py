"""The cases, one file a kind of mistake; importing this registers them."""

from benchmarks.faults_wild.cases import data as data
from benchmarks.faults_wild.cases import depth as depth
from benchmarks.faults_wild.cases import losses as losses
from benchmarks.faults_wild.cases import policies as policies
from benchmarks.faults_wild.cases import steps as steps
from benchmarks.faults_wild.cases import through_time as through_time
from benchmarks.faults_wild.cases import unseen as unseen
from benchmarks.faults_wild.cases import wiring as wiring
