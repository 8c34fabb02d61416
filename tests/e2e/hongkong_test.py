#!/usr/bin/python3 -B
"""Every transaction of config/hongkong.yaml: real faces, each endpoint's own certificate, three suppliers' clients."""
import collections
import csv
import glob
import json
import math
import os
import re
import shutil
import subprocess
import unittest

import grpc
import numpy

from country import Country
from harness import BUILD, ROOT, WAIT, Place, run, wait_for
from messages import admin, analysis, common, enrolment, matching
from revocable import Revocable
from served import ADMIN, ANALYSIS, ENROLMENT, GROUP, MATCHING, PEOPLE, Client, dg2, picture, read, refused

PROFILE = os.path.join(ROOT, "config/hongkong.yaml")
ENDPOINTS = os.path.join(os.environ.get("BIOMATCH_DATA", os.path.join(ROOT, "../shared/data")), "hk_endpoints.csv")
HEADQUARTERS = ("immigration-headquarters", "admin", 1)
ADA = [os.path.join(PEOPLE, "ada", name) for name in ("01.jpg", "02.jpg")]
FAY = os.path.join(PEOPLE, "fay", "01.jpg")
STRANGERS = [path for path in sorted(glob.glob(PEOPLE + "/*/01.jpg")) if "/ada/" not in path]
DENIED, NO_PEER = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
EVERY_CLASS = {
    "echannel-departure": ("west-kowloon-high-speed-rail", "departure", "arrivals"),
    "arrival-counter": ("lo-wu", "arrival", "arrivals"),
    "registration-kiosk": ("airport", "visitor-registration", "visitors"),
    "vehicle-echannel": ("shenzhen-bay", "vehicle-clearance", "drivers"),
    "id-registration-counter": ("registration-of-persons-offices", "id-application", "residents"),
    "id-collection-kiosk": ("smart-id-card-replacement-centres", "id-collection", "residents"),
    "passport-application-kiosk": ("branch-offices", "passport-photo", "residents"),
}


QUALITY = {number: name[18:] for name, number in vars(common).items() if name.startswith("QUALITY_COMPONENT_")}


def read_pixels(path):
    header, size, _, data = subprocess.run(["djpeg", "-pnm", path], stdout=subprocess.PIPE, check=True).stdout.split(b"\n", 3)
    assert header == b"P6"
    width, height = map(int, size.split())
    return numpy.frombuffer(data, numpy.uint8).reshape(height, width, 3).copy()


def write_pixels(pixels, path):
    ppm = b"P6\n%d %d\n255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes()
    with open(path, "wb") as file:
        subprocess.run(["cjpeg", "-quality", "92"], input=ppm, stdout=file, check=True)


def before_plain_background(path, eyes, out):
    """The person of a photograph, head and body, before a wall as passport offices have one."""
    pixels = read_pixels(path)
    y, x = numpy.mgrid[:pixels.shape[0], :pixels.shape[1]]
    mm = math.hypot(eyes[1].x - eyes[0].x, eyes[1].y - eyes[0].y) / 63
    left, top = (eyes[0].x + eyes[1].x) / 2, (eyes[0].y + eyes[1].y) / 2 + 15 * mm
    head = ((x - left) / 100) ** 2 + ((y - top) / 140) ** 2 < mm ** 2
    body = (y > top) & (abs(x - left) < 100 * mm)
    pixels[~(head | body)] = 190
    write_pixels(pixels, out)


def darker(path, out):
    write_pixels(read_pixels(path) // 3, out)


def from_afar(path, out):
    """The same photograph with as much wall again on every side."""
    wall = read_pixels(path).shape[0] // 2
    write_pixels(numpy.pad(read_pixels(path), ((wall, wall), (wall, wall), (0, 0)), constant_values=190), out)


class Endpoint(Client):
    """One endpoint with its purpose."""

    def __init__(self, place, site, kind, number, purpose):
        name = "%s-%s-%s" % (site, kind, number)
        if not os.path.exists(place.path("pki/%s.pem" % name)):
            place.cert("endpoint", place.path("pki/ca"), place.path("pki/" + name),
                       "biomatch://hongkong/%s/%s/%s" % (site, kind, number))
        super().__init__(place, place.daemon.port, name)
        self.name, self.purpose, self.who = name, purpose, (site, kind, number)

    def verifies(self, subject, path, gallery):
        return self.verify(subject, picture(read(path)), gallery=gallery, purpose=self.purpose)

    def verifies_frames(self, subject, paths, gallery):
        return self.verify(subject, common.Probe(frames=common.Frames(frames=[
            common.Frame(image=common.Image(data=read(path))) for path in paths])), gallery=gallery, purpose=self.purpose)

    def compares(self, live, other, chip=False):
        """Against another picture, or the passport chip that holds it."""
        reference = dg2(read(other)) if chip else read(other)
        return self.call(MATCHING + "Compare", matching.CompareRequest(
            purpose=self.purpose, probe=picture(read(live)), reference=picture(reference)), matching.CompareResponse)

    def reads_passport(self, live, chip, sod):
        return self.call(MATCHING + "VerifyDocument", matching.VerifyDocumentRequest(
            purpose=self.purpose, probe=picture(read(live)), dg2=chip, sod=sod), matching.VerifyDocumentResponse)

    def identifies(self, path, gallery):
        return self.call(MATCHING + "Identify", matching.IdentifyRequest(
            purpose=self.purpose, galleries=[gallery], probe=picture(read(path))), matching.IdentifyResponse)

    def enrols(self, subject, path, gallery, kind="", unique=False):
        return self.call(ENROLMENT + "Enrol", enrolment.EnrolRequest(
            purpose=self.purpose, request_id="%s/%s/%s" % (subject, gallery, path[-20:]), gallery=gallery,
            subject_id=subject, reference=picture(read(path)), refuse_duplicates=unique,
            encounter=enrolment.Encounter(encounter_type=kind)), enrolment.EnrolResponse)

    def judges(self, path):
        return self.call(ANALYSIS + "Analyse", analysis.AnalyseRequest(
            purpose=self.purpose, image=common.Image(data=read(path))), analysis.AnalyseResponse)


class HongKongTest(Revocable, Place):
    refused = refused

    def configuration(self, more=""):
        return super().configuration(more).replace("64MiB", "1GiB") + "documents:\n  csca: country/csca.pem\n"

    def setUp(self):
        super().setUp()
        self.country = Country(self.path("country"))
        shutil.copy(PROFILE, self.path("policy.yaml"))
        self.daemon = self.start()
        office = self.endpoint(*HEADQUARTERS, "administration")
        for gallery in ("arrivals", "visitors", "drivers", "residents"):
            office.call(ADMIN + "CreateGallery", admin.CreateGalleryRequest(
                purpose="administration", request_id=gallery, name=gallery), admin.CreateGalleryResponse)

    def endpoint(self, site, kind, number, purpose):
        return Endpoint(self, site, kind, number, purpose)

    def passes(self, answer):
        self.assertEqual((answer.decision, answer.reason), (common.DECISION_MATCH, common.REASON_UNSPECIFIED))
        # The decision and a coarse band: no endpoint sees a score.
        self.assertFalse(answer.HasField("raw"))
        self.assertIn(answer.band, (common.SCORE_BAND_ABOVE, common.SCORE_BAND_MATE))

    def stops(self, answer):
        self.assertEqual((answer.decision, answer.reason), (common.DECISION_NO_MATCH, common.REASON_UNSPECIFIED))
        self.assertFalse(answer.HasField("raw"))

    def refers(self, answer, reason):
        self.assertEqual((answer.decision, answer.reason), (common.DECISION_REFER, reason))

    def broken(self, report):
        """The rules that a picture breaks, by name."""
        return [QUALITY[check.component] for check in report.checks if check.value < check.minimum]

    def arrive(self, site, number, subject):
        """A visitor arrives: the camera against the document, then enrolled."""
        counter = self.endpoint(site, "arrival-counter", number, "arrival")
        self.passes(counter.compares(ADA[0], ADA[1], chip=True))
        self.stops(counter.compares(ADA[0], STRANGERS[0], chip=True))
        self.assertEqual(counter.enrols(subject, ADA[0], "arrivals", "arrival").outcome,
                         enrolment.ENROL_OUTCOME_CREATED)

    def test_1a_departure(self):
        self.arrive("airport", 96, "visitor")
        gate = self.endpoint("lo-wu", "echannel-departure", 82, "departure")
        self.passes(gate.verifies("visitor", ADA[1], "arrivals"))
        self.stops(gate.verifies("visitor", STRANGERS[0], "arrivals"))
        self.refers(gate.verifies("never-arrived", ADA[1], "arrivals"), common.REASON_NO_REFERENCE)
        self.refers(gate.verifies("visitor", GROUP, "arrivals"), common.REASON_SEVERAL_FACES)
        # Five passages that end without a match are an officer's from then on, even for the visitor.
        other = self.endpoint("lo-wu", "echannel-departure", 81, "departure")
        for _ in range(5):
            self.stops(other.verifies("visitor", STRANGERS[0], "arrivals"))
        refused = other.verifies("visitor", ADA[1], "arrivals")
        self.refers(refused, common.REASON_ATTEMPTS_EXCEEDED)
        self.assertTrue(0 < refused.retry_after_ms <= 600000)
        passage = [ADA[1], ADA[0], ADA[1]]
        self.passes(gate.verifies_frames("visitor", passage, "arrivals"))
        self.stops(gate.verifies_frames("visitor", [STRANGERS[0]] * 3, "arrivals"))
        self.refers(gate.verifies_frames("visitor", [ADA[1], STRANGERS[0]], "arrivals"), common.REASON_FRAMES_DIFFER)
        self.refused(grpc.StatusCode.INVALID_ARGUMENT, "TOO_MANY_FRAMES", "probe", gate.verifies_frames, "visitor",
                     passage + [ADA[1]], "arrivals")

    def test_1b_arrival(self):
        self.arrive("west-kowloon-high-speed-rail", 1, "visitor")
        counter = self.endpoint("west-kowloon-high-speed-rail", "arrival-counter", 2, "arrival")
        # The passport: its owner, another's hands, and another's picture under its signature.
        chip, forged = dg2(read(ADA[1])), dg2(read(STRANGERS[0]))
        sod = self.country.sign(chip)
        for live, group, authentic, decision in (
                (ADA[0], chip, True, common.DECISION_MATCH), (STRANGERS[0], chip, True, common.DECISION_NO_MATCH),
                (STRANGERS[0], forged, False, common.DECISION_MATCH)):
            answer = counter.reads_passport(live, group, sod)
            self.assertEqual((answer.document.authentic, answer.face.decision), (authentic, decision))
        self.assertEqual(counter.enrols("family", GROUP, "arrivals", "arrival").reason, common.REASON_SEVERAL_FACES)
        # The photograph serves one stay.
        office = self.endpoint(*HEADQUARTERS, "administration")
        held = office.call(ENROLMENT + "GetSubject", enrolment.GetSubjectRequest(
            purpose="administration", gallery="arrivals", subject_id="visitor"), enrolment.GetSubjectResponse).encounters[0]
        self.assertEqual(held.expires_at.seconds - held.captured_at.seconds, 180 * 86400)
        # The next arrival replaces it, once it is good enough to.
        again = self.endpoint("lo-wu", "arrival-counter", 1, "arrival")
        self.assertEqual(again.enrols("visitor", GROUP, "arrivals", "arrival").superseded, 0)
        self.assertEqual(again.enrols("visitor", ADA[1], "arrivals", "arrival").superseded, 1)
        left = office.call(ENROLMENT + "GetSubject", enrolment.GetSubjectRequest(
            purpose="administration", gallery="arrivals", subject_id="visitor"), enrolment.GetSubjectResponse).encounters
        self.assertEqual(len(left), 1)
        self.assertNotEqual(left[0].encounter_id, held.encounter_id)
        # What a counter enrols it cannot read back, search or remove.
        self.refused(DENIED, "PURPOSE_DENIED", "", counter.identifies, ADA[1], "arrivals")
        self.refused(DENIED, "PURPOSE_DENIED", "", counter.verifies, "visitor", ADA[1], "arrivals")

    def test_1c_registration(self):
        kiosk = self.endpoint("macau-ferry-terminal", "registration-kiosk", 7, "visitor-registration")
        self.passes(kiosk.compares(ADA[1], ADA[0]))
        self.assertEqual(kiosk.identifies(ADA[1], "visitors").decision, common.DECISION_NO_MATCH)
        self.assertEqual(kiosk.enrols("first", ADA[1], "visitors", "registration", unique=True).outcome,
                         enrolment.ENROL_OUTCOME_CREATED)
        found = kiosk.identifies(ADA[0], "visitors")
        self.assertEqual([c.subject_id for c in found.candidates], ["first"])
        again = kiosk.enrols("second", ADA[0], "visitors", "registration", unique=True)
        self.assertEqual((again.outcome, [c.subject_id for c in again.candidates]),
                         (enrolment.ENROL_OUTCOME_DUPLICATE, ["first"]))
        self.assertEqual(kiosk.enrols("other", STRANGERS[0], "visitors", "registration", unique=True).outcome,
                         enrolment.ENROL_OUTCOME_CREATED)

    def enrol_driver(self):
        office = self.endpoint(*HEADQUARTERS, "driver-enrolment")
        self.assertEqual(office.enrols("driver", ADA[0], "drivers", "application", unique=True).outcome,
                         enrolment.ENROL_OUTCOME_CREATED)

    def test_1d_vehicle(self):
        self.enrol_driver()
        kiosk = self.endpoint("man-kam-to", "vehicle-echannel", 12, "vehicle-clearance")
        self.passes(kiosk.verifies("driver", ADA[1], "drivers"))
        self.stops(kiosk.verifies("driver", STRANGERS[1], "drivers"))
        self.refers(kiosk.verifies("passenger", ADA[1], "drivers"), common.REASON_NO_REFERENCE)

    def test_2_second_supplier(self):
        """Shenzhen Bay's kiosks from another supplier: the same work over npm's client."""
        if not os.path.isdir(os.path.join(ROOT, "build/node/node_modules")):
            self.skipTest("build/node is missing; run scripts/setup")
        self.enrol_driver()
        kiosk = self.endpoint("shenzhen-bay", "vehicle-echannel", 50, "vehicle-clearance")
        for probe, expected in ((ADA[1], "DECISION_MATCH"), (STRANGERS[0], "DECISION_NO_MATCH")):
            done = run("node", os.path.join(ROOT, "tests/e2e/verify.mjs"), "localhost:%d" % self.daemon.port,
                       self.path("pki/ca.pem"), self.path("pki/" + kiosk.name), kiosk.purpose, "drivers", "driver", probe)
            self.assertEqual(done.returncode, 0, done.stderr)
            answer = json.loads(done.stdout)
            self.assertEqual((answer["decision"], answer["raw"]), (expected, None))

    def third_supplier(self, kind, number, purpose, *command):
        """The status and answer of the C client at the bridge."""
        endpoint = self.endpoint("hong-kong-zhuhai-macao-bridge", kind, number, purpose)
        files = ["--ca=" + self.path("pki/ca.pem"), "--cert=" + self.path("pki/%s.pem" % endpoint.name),
                 "--key=" + self.path("pki/%s.key" % endpoint.name)]
        done = run(BUILD + "/biomatch", *command, "--json", "--purpose=" + purpose,
                   "--target=localhost:%d" % self.daemon.port, *files)
        self.assertEqual(done.stderr, "")
        return done.returncode, json.loads(done.stdout)

    def test_3_bridge(self):
        """1a to 1d from a third integrator's clients at the Hong Kong-Zhuhai-Macao Bridge."""
        for expected, *call in (
                (0, "arrival-counter", 55, "arrival", "compare", ADA[0], ADA[1]),
                (0, "arrival-counter", 55, "arrival", "enrol", "arrivals", "visitor", ADA[0]),
                (0, "echannel-departure", 40, "departure", "verify", "arrivals", "visitor", ADA[1]),
                (1, "echannel-departure", 40, "departure", "verify", "arrivals", "visitor", STRANGERS[0]),
                (0, "echannel-departure", 40, "departure", "verify", "arrivals", "visitor", ADA[1], "--image=" + ADA[0]),
                (3, "echannel-departure", 40, "departure", "verify", "arrivals", "nobody", ADA[1]),
                (1, "registration-kiosk", 2, "visitor-registration", "identify", "visitors", ADA[0]),
                (0, "registration-kiosk", 2, "visitor-registration", "enrol", "visitors", "visitor", ADA[0]),
                (0, "registration-kiosk", 2, "visitor-registration", "identify", "visitors", ADA[1])):
            status, answer = self.third_supplier(*call)
            self.assertEqual(status, expected, (call, answer))
            if "verify" in call:
                self.assertEqual(answer["basis"]["attempts"], 2 if "--image" in call[-1] else 1)
        status, answer = self.third_supplier("echannel-departure", 40, "departure", "verify", "arrivals", "visitor", ADA[1],
                                             "--image=" + ADA[0], "--image=" + self.path("none.jpg"))
        self.assertEqual((status, "No such file" in answer["error"]["message"]), (6, True), answer)
        self.enrol_driver()
        status, answer = self.third_supplier("vehicle-echannel", 30, "vehicle-clearance",
                                             "verify", "drivers", "driver", ADA[1])
        self.assertEqual((status, answer["decision"]), (0, "DECISION_MATCH"))

    def test_4a_identity_card(self):
        site = "registration-of-persons-offices"
        first = self.endpoint(site, "id-registration-counter", 91, "id-first-application")
        self.assertEqual(first.identifies(ADA[0], "residents").decision, common.DECISION_NO_MATCH)
        self.assertEqual(first.enrols("resident", ADA[0], "residents", "application", unique=True).outcome,
                         enrolment.ENROL_OUTCOME_CREATED)
        # The same face applies under another name.
        self.assertEqual([c.subject_id for c in first.identifies(ADA[1], "residents").candidates], ["resident"])
        self.assertEqual(first.enrols("alias", ADA[1], "residents", "application", unique=True).outcome,
                         enrolment.ENROL_OUTCOME_DUPLICATE)
        # Years later, for a new card: against the record held.
        again = self.endpoint("smart-id-card-replacement-centres", "id-registration-counter", 229, "id-application")
        self.passes(again.verifies("resident", ADA[1], "residents"))
        self.stops(again.verifies("resident", STRANGERS[0], "residents"))
        self.refused(DENIED, "PURPOSE_DENIED", "", again.identifies, ADA[1], "residents")

    def test_4b_collection(self):
        counter = self.endpoint("registration-of-persons-offices", "id-registration-counter", 1, "id-first-application")
        counter.enrols("resident", ADA[0], "residents", "application", unique=True)
        kiosk = self.endpoint("smart-id-card-replacement-centres", "id-collection-kiosk", 18, "id-collection")
        self.passes(kiosk.verifies("resident", ADA[1], "residents"))
        self.stops(kiosk.verifies("resident", STRANGERS[0], "residents"))
        self.refers(kiosk.verifies("stranger", ADA[1], "residents"), common.REASON_NO_REFERENCE)

    def test_5_passport_photo(self):
        kiosk = self.endpoint("branch-offices", "passport-application-kiosk", 25, "passport-photo")
        eyes = kiosk.judges(FAY).report.faces[0].landmarks[:2]
        photo = self.path("photo.jpg")
        before_plain_background(FAY, eyes, photo)
        answer = kiosk.compares(FAY, photo)
        self.passes(answer)
        self.assertEqual(self.broken(answer.reference), [])
        self.assertIn(common.QUALITY_COMPONENT_BACKGROUND_UNIFORMITY, [c.component for c in answer.reference.checks])
        self.stops(kiosk.compares(ADA[0], photo))
        # The same picture before the wall where it was taken; another one, tilted, with the mouth open.
        for path, rules in ((FAY, {"BACKGROUND_UNIFORMITY"}), (ADA[0], {"POSE_ROLL", "MOUTH_CLOSED", "INTER_EYE_DISTANCE"})):
            answer = kiosk.compares(FAY, path)
            self.refers(answer, common.REASON_NOT_A_PORTRAIT)
            self.assertTrue(answer.reason_is_reference)
            self.assertEqual(set(self.broken(answer.reference)), rules)
            self.assertEqual(self.broken(answer.probe), [])
        far = self.path("far.jpg")
        from_afar(photo, far)
        self.assertIn("HEAD_SIZE", self.broken(kiosk.compares(FAY, far).reference))
        # What is wrong with the live picture is told of it.
        dark = self.path("dark.jpg")
        darker(FAY, dark)
        answer = kiosk.compares(dark, photo)
        self.refers(answer, common.REASON_LOW_QUALITY)
        self.assertFalse(answer.reason_is_reference)
        self.assertIn("UNDER_EXPOSURE", self.broken(answer.probe))
        answer = kiosk.compares(ADA[0], GROUP)
        self.refers(answer, common.REASON_SEVERAL_FACES)
        self.assertTrue(answer.reason_is_reference)
        self.assertTrue(kiosk.judges(ADA[1]).usable)
        self.assertFalse(kiosk.judges(GROUP).usable)
        office = self.endpoint(*HEADQUARTERS, "administration")
        galleries = office.call(ADMIN + "ListGalleries", admin.ListGalleriesRequest(purpose="administration"),
                                admin.ListGalleriesResponse).galleries
        self.assertEqual([g.encounters for g in galleries], [0] * 4)

    def test_standby(self):
        """Its class alone reads the changes, and does nothing else."""
        def first(endpoint):
            changes = endpoint.channel.unary_stream(
                ADMIN + "StreamChanges", request_serializer=lambda m: m.SerializeToString(),
                response_deserializer=admin.StreamChangesResponse.FromString)
            return next(changes(admin.StreamChangesRequest(purpose="standby", first=1), timeout=WAIT))
        standby = self.endpoint("immigration-headquarters", "standby", 1, "standby")
        self.assertEqual(first(standby).changes[0].place.sequence, 1)
        self.refused(DENIED, "PURPOSE_DENIED", "", first, self.endpoint(*HEADQUARTERS, "standby"))
        self.refused(DENIED, "PURPOSE_DENIED", "", standby.verifies, "visitor", ADA[0], "arrivals")

    def test_denials(self):
        """No class does the work of another, and no purpose reaches another's gallery."""
        for kind, (site, own, gallery) in EVERY_CLASS.items():
            for other, (_, purpose, theirs) in EVERY_CLASS.items():
                endpoint = self.endpoint(site, kind, 1, purpose)
                if other != kind:
                    self.refused(DENIED, "PURPOSE_DENIED", "", endpoint.verifies, "x", ADA[0], theirs)
                    self.refused(DENIED, "PURPOSE_DENIED", "", endpoint.compares, ADA[0], ADA[1])
            endpoint = self.endpoint(site, kind, 1, own)
            for wrong in {"arrivals", "visitors", "drivers", "residents"} - {gallery}:
                self.refused(DENIED, "PURPOSE_DENIED", "", endpoint.verifies, "x", ADA[0], wrong)
                self.refused(DENIED, "PURPOSE_DENIED", "", endpoint.enrols, "x", ADA[0], wrong)
            for purpose in ("administration", "investigation", "driver-enrolment"):
                self.refused(DENIED, "PURPOSE_DENIED", "", self.endpoint(site, kind, 1, purpose).compares, *ADA)
            self.refused(DENIED, "PURPOSE_UNKNOWN", "purpose", self.endpoint(site, kind, 1, "curiosity").compares, *ADA)

    def test_revoked(self):
        """An endpoint of any class whose certificate is taken back is out, connected or not; its neighbours stay."""
        out, stay = ([self.endpoint(site, kind, number, purpose) for kind, (site, purpose, _) in EVERY_CLASS.items()]
                     for number in (1, 2))
        for endpoint in out + stay:
            self.assertFalse(self.is_out(endpoint))
        for endpoint in out:
            self.revoke(endpoint.name)
        self.publish()
        for endpoint in out:
            wait_for(lambda gone=endpoint: self.is_out(gone), endpoint.name)
            again = self.endpoint(*endpoint.who, endpoint.purpose)
            self.assertTrue(self.is_out(again))
        for endpoint in stay:
            self.assertFalse(self.is_out(endpoint))

    def is_out(self, endpoint):
        """Whether a call gets nowhere; one that gets to its fields is let in, whatever its purpose says."""
        try:
            endpoint.call(MATCHING + "Verify", matching.VerifyRequest(purpose=endpoint.purpose), matching.VerifyResponse)
        except grpc.RpcError as error:
            return error.code() == grpc.StatusCode.UNAVAILABLE
        return False

    def test_outside_the_estate(self):
        """A certificate of our authority for an endpoint that the operator does not have opens nothing."""
        for site, kind, number in (("lo-wu", "echannel-departure", 83), ("lo-wu", "echannel-departure", 0),
                                   ("lo-wu", "vehicle-echannel", 1), ("kowloon", "echannel-departure", 1),
                                   ("lo-wu", "echannel", 1), ("immigration-headquarters", "admin", 5)):
            endpoint = self.endpoint(site, kind, number, "departure")
            self.refused(NO_PEER, "PEER_IDENTITY", "", endpoint.verifies, "x", ADA[0], "arrivals")


class EstateTest(unittest.TestCase):
    def setUp(self):
        with open(PROFILE, encoding="utf-8") as file:
            self.groups = re.findall(r"{site: (\S+), class: (\S+), count: (\d+)}", file.read())

    def test_counts(self):
        classes = collections.Counter()
        for _, kind, count in self.groups:
            classes[kind] += int(count)
        self.assertEqual((classes.pop("admin"), classes.pop("standby")), (4, 2))
        self.assertEqual(classes, {
            "echannel-departure": 376, "arrival-counter": 495, "registration-kiosk": 22, "vehicle-echannel": 124,
            "id-registration-counter": 320, "id-collection-kiosk": 25, "passport-application-kiosk": 33})
        self.assertEqual(sum(classes.values()), 1395)

    @unittest.skipUnless(os.path.exists(ENDPOINTS), "the operator's table is not there")
    def test_sites(self):
        with open(ENDPOINTS, encoding="utf-8") as file:
            table = {(re.sub("[^a-z0-9]+", "-", row["site"].lower()), row["endpoint_class"], row["count"])
                     for row in csv.DictReader(file) if row["count"] != "0"}
        self.assertEqual({group for group in self.groups if group[1] not in ("admin", "standby")}, table)


if __name__ == "__main__":
    unittest.main(verbosity=2)
