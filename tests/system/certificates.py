"""Authorities, certificates and keys for tests, as PEM files."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


def _name(text):
  return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
  """Signs certificates; `path` is its own."""

  def __init__(self, directory, name):
    self.directory = directory
    self.name = name
    self.key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.utcnow()
    self.certificate = self._signed(
        _name(name), self.key.public_key(), now - DAY, now + 30 * DAY,
        [(x509.BasicConstraints(ca=True, path_length=None), True)])
    self.path = directory / f"{name}.pem"
    self.path.write_bytes(
        self.certificate.public_bytes(serialization.Encoding.PEM))

  def _signed(self, subject, public_key, begin, end, extensions):
    builder = (x509.CertificateBuilder().subject_name(subject)
               .issuer_name(_name(self.name)).public_key(public_key)
               .serial_number(x509.random_serial_number())
               .not_valid_before(begin).not_valid_after(end))
    for extension, critical in extensions:
      builder = builder.add_extension(extension, critical)
    return builder.sign(self.key, hashes.SHA256())

  def issue(self, name, *, begin=-1, end=30, file=None):
    """(certificate, key) files for 127.0.0.1, valid from day to day of now."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.utcnow()
    certificate = self._signed(
        _name(name), key.public_key(), now + begin * DAY, now + end * DAY,
        [(x509.SubjectAlternativeName(
            [x509.DNSName("localhost"),
             x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)])
    file = file or name
    paths = (self.directory / f"{file}.crt", self.directory / f"{file}.key")
    paths[0].write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()))
    return paths
