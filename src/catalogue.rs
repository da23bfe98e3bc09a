//! The alert catalogue: every alert type, with its display name, severity, tactics and advice.
//!
//! The `AppServices_*` and `AzureDNS_*` identifiers, names, severities and tactics are those of the
//! public catalogue of the cloud service whose alerts Portcullis raises in the open, letter for
//! letter, so that playbooks written against them keep working. `Gateway_*` are ours.

use crate::ruleset::layout::numbered;

numbered! {
    /// How bad an alert is if it is true.
    Severity {
        /// Worth knowing.
        Informational = 0,
        /// Look when there is time.
        Low = 1,
        /// Look today.
        Medium = 2,
        /// Look now.
        High = 3,
    }
}

impl Severity {
    /// Every severity, from the least on.
    pub const ALL: [Severity; 4] = [
        Severity::Informational,
        Severity::Low,
        Severity::Medium,
        Severity::High,
    ];

    /// The name, as alerts spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Informational => "Informational",
            Severity::Low => "Low",
            Severity::Medium => "Medium",
            Severity::High => "High",
        }
    }

    /// The severity with this name in any case.
    pub fn from_name(name: &str) -> Option<Severity> {
        Severity::ALL
            .into_iter()
            .find(|severity| severity.name().eq_ignore_ascii_case(name))
    }
}

/// One type of alert.
#[derive(Debug)]
pub struct AlertType {
    /// Identifier.
    pub id: &'static str,
    /// Name for people.
    pub display_name: &'static str,
    /// Severity.
    pub severity: Severity,
    /// ATT&CK tactics, as the catalogue names them.
    pub tactics: &'static [&'static str],
    /// What to do about it.
    pub remediation: &'static str,
}

/// Looks an alert type up. The public catalogue spells one identifier with a stray space; both
/// spellings are found. Returns its index in [`ALERTS`] as well.
pub fn find(id: &str) -> Option<(u16, &'static AlertType)> {
    let id = if id == "AppServices_KnownCredential AccessTools" {
        "AppServices_KnownCredentialAccessTools"
    } else {
        id
    };
    let index = ALERTS.iter().position(|alert| alert.id == id)?;
    Some((u16::try_from(index).ok()?, ALERTS.get(index)?))
}

/// The whole catalogue.
pub static ALERTS: [AlertType; 51] = [
    AlertType {
        id: "Gateway_CustomRule",
        display_name: "A rule of the operator's matched",
        severity: Severity::Medium,
        tactics: &[],
        remediation: "See the rule's own description.",
    },
    AlertType {
        id: "AppServices_EICAR",
        display_name: "Test alert (not a threat)",
        severity: Severity::High,
        tactics: &[],
        remediation: "Nothing to do: somebody tested that alerts arrive.",
    },
    AlertType {
        id: "AppServices_Nmap",
        display_name: "NMap scanning detected",
        severity: Severity::Informational,
        tactics: &["PreAttack"],
        remediation: "Find out who scans. If it is not you, block the source address and check what it was shown.",
    },
    AlertType {
        id: "AppServices_WebFingerprinting",
        display_name: "Web fingerprinting detected",
        severity: Severity::Medium,
        tactics: &["PreAttack"],
        remediation: "Hide version headers and version-revealing files, and block the source address.",
    },
    AlertType {
        id: "AppServices_WpScanner",
        display_name: "Vulnerability scanner detected (WordPress)",
        severity: Severity::Low,
        tactics: &["PreAttack"],
        remediation: "If WordPress runs here, update it and its plugins; restrict wp-login.php, xmlrpc.php and user listing.",
    },
    AlertType {
        id: "AppServices_JoomlaScanner",
        display_name: "Vulnerability scanner detected (Joomla)",
        severity: Severity::Low,
        tactics: &["PreAttack"],
        remediation: "If Joomla runs here, update it and its components; restrict /administrator.",
    },
    AlertType {
        id: "AppServices_DrupalScanner",
        display_name: "Vulnerability scanner detected (Drupal)",
        severity: Severity::Low,
        tactics: &["PreAttack"],
        remediation: "If Drupal runs here, update it and its modules; remove CHANGELOG.txt and the like from the web root.",
    },
    AlertType {
        id: "AppServices_ScanSensitivePage",
        display_name: "Suspicious access to possibly vulnerable web page detected",
        severity: Severity::Low,
        tactics: &[],
        remediation: "Check that the page is not served to the public, and what the source was answered.",
    },
    AlertType {
        id: "AppServices_SpamReferrer",
        display_name: "Spam folder referrer detected",
        severity: Severity::Low,
        tactics: &[],
        remediation: "Keep this referrer out of published statistics; no visitor came from there.",
    },
    AlertType {
        id: "AppServices_UserAgentInjection",
        display_name: "Suspicious User-Agent detected",
        severity: Severity::Informational,
        tactics: &["InitialAccess"],
        remediation: "Check that what logs or shows the User-Agent treats it as text; look at other requests of the source.",
    },
    AlertType {
        id: "AppServices_WpThemeInjection",
        display_name: "Suspicious WordPress theme invocation detected",
        severity: Severity::High,
        tactics: &["Execution"],
        remediation: "Compare the theme with its original, remove foreign code, change administrator passwords.",
    },
    AlertType {
        id: "AppServices_PhpInUploadFolder",
        display_name: "PHP file in upload folder",
        severity: Severity::Medium,
        tactics: &["Execution"],
        remediation: "Check whether the file exists. If it does, treat the host as compromised; forbid PHP in upload folders.",
    },
    AlertType {
        id: "AppServices_AnomalousPageAccess",
        display_name: "Connection to web page from anomalous IP address detected",
        severity: Severity::Low,
        tactics: &["InitialAccess"],
        remediation: "Check that the visit was an administrator's; restrict administration pages to known networks.",
    },
    AlertType {
        id: "Gateway_SqlInjection",
        display_name: "SQL injection attempt",
        severity: Severity::High,
        tactics: &["InitialAccess"],
        remediation: "Check that the parameter is bound, not pasted, into its query; look for errors or unusual answers to the source.",
    },
    AlertType {
        id: "Gateway_CrossSiteScripting",
        display_name: "Cross-site scripting attempt",
        severity: Severity::Medium,
        tactics: &["InitialAccess"],
        remediation: "Check that the value is encoded where it is shown.",
    },
    AlertType {
        id: "Gateway_CommandInjection",
        display_name: "OS command injection attempt",
        severity: Severity::High,
        tactics: &["Execution"],
        remediation: "Check that the value never reaches a shell; look for processes that the web server started at that time.",
    },
    AlertType {
        id: "Gateway_CodeInjection",
        display_name: "Code injection attempt (PHP, template, JNDI, deserialisation, expression language, node)",
        severity: Severity::High,
        tactics: &["Execution"],
        remediation: "Update the component that the payload aims at; check that the value is never evaluated.",
    },
    AlertType {
        id: "Gateway_PathTraversal",
        display_name: "Path traversal or file inclusion attempt",
        severity: Severity::High,
        tactics: &["InitialAccess"],
        remediation: "Check that the value cannot choose a file; look at what was answered.",
    },
    AlertType {
        id: "Gateway_ServerSideRequestForgery",
        display_name: "Server-side request forgery attempt",
        severity: Severity::Medium,
        tactics: &["InitialAccess"],
        remediation: "Restrict where the server may connect to; protect the metadata service.",
    },
    AlertType {
        id: "Gateway_VulnerabilityScanner",
        display_name: "Vulnerability scanner detected",
        severity: Severity::Low,
        tactics: &["PreAttack"],
        remediation: "Find out who scans. If it is not you, block the source address.",
    },
    AlertType {
        id: "Gateway_WebShellAccess",
        display_name: "Web shell access detected",
        severity: Severity::High,
        tactics: &["Persistence"],
        remediation: "Check whether the file exists. If it does, treat the host as compromised.",
    },
    AlertType {
        id: "Gateway_ProtocolAttack",
        display_name: "HTTP protocol attack",
        severity: Severity::Medium,
        tactics: &["InitialAccess"],
        remediation: "Check that gateway and upstream read requests alike; reject ambiguous ones at the gateway.",
    },
    AlertType {
        id: "Gateway_DistributedScan",
        display_name: "Distributed scanning campaign",
        severity: Severity::Medium,
        tactics: &["PreAttack"],
        remediation: "Compare what the hosts answered; block the set of addresses.",
    },
    AlertType {
        id: "AppServices_PhishingContent",
        display_name: "Phishing content hosted",
        severity: Severity::High,
        tactics: &["Collection"],
        remediation: "Take the page down, find how it came there, change deployment credentials.",
    },
    AlertType {
        id: "AppServices_SmartScreen",
        display_name: "Website is tagged as malicious in threat intelligence feed",
        severity: Severity::Medium,
        tactics: &["Collection"],
        remediation: "Check the site for foreign content, then ask the feed for a review.",
    },
    AlertType {
        id: "AppServices_IncomingTiClientIpFtp",
        display_name: "An IP that connected to the FTP interface was found in threat intelligence",
        severity: Severity::Medium,
        tactics: &["InitialAccess"],
        remediation: "Check what the address did; change FTP credentials or switch FTP off.",
    },
    AlertType {
        id: "AppServices_DanglingDomain",
        display_name: "Dangling DNS record detected",
        severity: Severity::High,
        tactics: &[],
        remediation: "Remove the DNS record or take the name back.",
    },
    AlertType {
        id: "AppServices_PotentialDanglingDomain",
        display_name: "Potential dangling DNS record detected (a verification TXT record stands in the way)",
        severity: Severity::Low,
        tactics: &[],
        remediation: "Remove the DNS record if its target is not yours any more.",
    },
    AlertType {
        id: "AzureDNS_ThreatIntelSuspectDomain",
        display_name: "Communication with suspicious domain identified by threat intelligence",
        severity: Severity::Medium,
        tactics: &[
            "InitialAccess",
            "Persistence",
            "Execution",
            "CommandAndControl",
            "Exploitation",
        ],
        remediation: "Find which process asks for the name and treat its host as suspect.",
    },
    AlertType {
        id: "AppServices_LinuxCommandOnWindows",
        display_name: "Attempt to run Linux commands on a Windows app",
        severity: Severity::Medium,
        tactics: &[],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_HighPrivilegeCommand",
        display_name: "Attempt to run high privilege command detected",
        severity: Severity::Medium,
        tactics: &[],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_Base64EncodedExecutableInCommandLineParams",
        display_name: "Encoded executable in command line data",
        severity: Severity::High,
        tactics: &["DefenseEvasion", "Execution"],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_SuspectDownload",
        display_name: "File download from a known malicious source",
        severity: Severity::Medium,
        tactics: &[
            "PrivilegeEscalation",
            "Execution",
            "Exfiltration",
            "CommandAndControl",
        ],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_SuspectDownloadArtifacts",
        display_name: "Suspicious file download",
        severity: Severity::Medium,
        tactics: &["Persistence"],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_DigitalCurrencyMining",
        display_name: "Digital currency mining related behavior",
        severity: Severity::High,
        tactics: &["Execution"],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_CryptoCoinMinerDownload",
        display_name: "Possible Cryptocoinminer download",
        severity: Severity::Medium,
        tactics: &["DefenseEvasion", "CommandAndControl", "Exploitation"],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_ExecutableDecodedUsingCertutil",
        display_name: "Executable decoded using certutil",
        severity: Severity::High,
        tactics: &["DefenseEvasion", "Execution"],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_DownloadUsingCertutil",
        display_name: "Suspicious download using certutil",
        severity: Severity::Medium,
        tactics: &["Execution"],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_FilelessAttackBehaviorDetection",
        display_name: "Fileless attack behavior",
        severity: Severity::Medium,
        tactics: &["Execution"],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_FilelessAttackTechniqueDetection",
        display_name: "Fileless attack technique",
        severity: Severity::High,
        tactics: &["Execution"],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_FilelessAttackToolkitDetection",
        display_name: "Fileless attack toolkit",
        severity: Severity::High,
        tactics: &["DefenseEvasion", "Execution"],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_DataEgressArtifacts",
        display_name: "Possible data exfiltration",
        severity: Severity::Medium,
        tactics: &["Collection", "Exfiltration"],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_ReverseShell",
        display_name: "Potential reverse shell",
        severity: Severity::Medium,
        tactics: &["Exfiltration", "Exploitation"],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_DownloadCodeFromWebsite",
        display_name: "Raw data download (paste sites)",
        severity: Severity::Medium,
        tactics: &["Execution"],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_CurlToDisk",
        display_name: "Saving curl output to disk",
        severity: Severity::Low,
        tactics: &[],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_CommandlineSuspectDomain",
        display_name: "Suspicious domain name reference",
        severity: Severity::Low,
        tactics: &["Exfiltration"],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_SuspectPhp",
        display_name: "Suspicious PHP execution",
        severity: Severity::Medium,
        tactics: &["Execution"],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_PowerShellPowerSploitScriptExecution",
        display_name: "Suspicious PowerShell cmdlets executed",
        severity: Severity::Medium,
        tactics: &["Execution"],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_KnownCredentialAccessTools",
        display_name: "Suspicious process executed (credential access)",
        severity: Severity::High,
        tactics: &["CredentialAccess"],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_ProcessWithKnownSuspiciousExtension",
        display_name: "Suspicious process name",
        severity: Severity::Medium,
        tactics: &["Persistence", "DefenseEvasion"],
        remediation: COMMAND_ADVICE,
    },
    AlertType {
        id: "AppServices_SVCHostFromInvalidPath",
        display_name: "Suspicious SVCHOST process executed",
        severity: Severity::High,
        tactics: &["DefenseEvasion", "Execution"],
        remediation: COMMAND_ADVICE,
    },
];

const COMMAND_ADVICE: &str = "Find which application and request ran the command, or tried to. \
    If it ran and nobody meant it to, treat the host as compromised.";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn identifiers_are_found_and_unique() {
        for (index, alert) in ALERTS.iter().enumerate() {
            assert_eq!(usize::from(find(alert.id).unwrap().0), index);
        }
        assert!(find("AppServices_KnownCredential AccessTools").is_some());
        assert!(find("appservices_nmap").is_none());
        assert_eq!(
            ALERTS
                .iter()
                .filter(|a| !a.id.starts_with("Gateway_"))
                .count(),
            40
        );
    }
}
